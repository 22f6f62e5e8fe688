//! Conditional writes, for services of this program.

use std::sync::Arc;

use pomerium_api::databroker::Databroker;
use pomerium_api::pb::pomerium::internal::conditional_writes_server::ConditionalWrites;
use pomerium_api::pb::pomerium::internal::{ReplaceRequest, ReplaceResponse};
use tonic::{Request, Response, Status};

/// The service.
pub struct Writes(Arc<dyn Databroker>);

impl Writes {
    pub(super) fn new(broker: Arc<dyn Databroker>) -> Self {
        Self(broker)
    }
}

#[tonic::async_trait]
impl ConditionalWrites for Writes {
    async fn replace(&self, request: Request<ReplaceRequest>) -> Result<Response<ReplaceResponse>, Status> {
        let record = request.into_inner().record;
        let record = record.ok_or_else(|| Status::invalid_argument("there is no record"))?;
        let record = self.0.replace(record).await?;
        Ok(Response::new(ReplaceResponse { record }))
    }
}
