//! Conditional writes, for services of this program.

use pomerium_api::pb::pomerium::internal::conditional_writes_server::ConditionalWrites;
use pomerium_api::pb::pomerium::internal::{ReplaceRequest, ReplaceResponse};
use tonic::{Request, Response, Status};

use super::mode::Served;

/// The service.
pub struct Writes(Served);

impl Writes {
    pub(super) fn new(served: Served) -> Self {
        Self(served)
    }
}

#[tonic::async_trait]
impl ConditionalWrites for Writes {
    async fn replace(&self, request: Request<ReplaceRequest>) -> Result<Response<ReplaceResponse>, Status> {
        let broker = self.0.writes(request.metadata())?;
        let record = request.into_inner().record;
        let record = record.ok_or_else(|| Status::invalid_argument("there is no record"))?;
        let record = broker.replace(record).await?;
        Ok(Response::new(ReplaceResponse { record }))
    }
}
