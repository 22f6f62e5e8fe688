//! How far a databroker has come (spec databroker.md 10.3, 10.4).

use pomerium_api::pb::databroker as pb;
use pomerium_api::pb::databroker::checkpoint_service_server::CheckpointService;
use tonic::{Code, Request, Response, Status};

use super::mode::Served;
use super::reason::reason;

/// The service.
pub struct Checkpoints(Served);

impl Checkpoints {
    pub(super) fn new(served: Served) -> Self {
        Self(served)
    }
}

#[tonic::async_trait]
impl CheckpointService for Checkpoints {
    async fn get_checkpoint(
        &self,
        _: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        let is_leader = self.0.follower().is_none();
        let versions = self.0.checkpoint().await?;
        let checkpoint = pb::Checkpoint {
            server_version: versions.server_version,
            record_version: versions.latest_record_version,
        };
        Ok(Response::new(pb::GetCheckpointResponse {
            checkpoint: Some(checkpoint),
            is_leader,
        }))
    }

    async fn set_checkpoint(
        &self,
        _: Request<pb::SetCheckpointRequest>,
    ) -> Result<Response<pb::SetCheckpointResponse>, Status> {
        let text = "a databroker keeps its checkpoint itself";
        Err(reason(Code::Unimplemented, "SET_CHECKPOINT_NOT_SUPPORTED", text))
    }
}
