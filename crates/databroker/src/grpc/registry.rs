//! The calls of `registry.Registry` (spec databroker.md 14).

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use pomerium_api::pb::registry as pb;
use tonic::{Request, Response, Status};

use super::mode::Served;

/// The service.
pub(super) struct Registry(Served);

impl Registry {
    pub(super) fn new(served: Served) -> Self {
        Self(served)
    }
}

#[tonic::async_trait]
impl pb::registry_server::Registry for Registry {
    async fn report(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let broker = self.0.writes(request.metadata())?;
        let again = broker.report(request.into_inner().services).await?;
        Ok(Response::new(pb::RegisterResponse {
            call_back_after: prost_types::Duration::try_from(again).ok(),
        }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ServiceList>, Status> {
        let broker = self.0.reads(request.metadata()).await?;
        let services = broker.services(request.into_inner().kinds).await?;
        Ok(Response::new(pb::ServiceList { services }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::ServiceList, Status>> + Send>>;

    async fn watch(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let broker = self.0.reads(request.metadata()).await?;
        let lists = broker.watch_services(request.into_inner().kinds).await?;
        let lists = lists.map(|list| match list {
            Ok(services) => Ok(pb::ServiceList { services }),
            Err(error) => Err(error.into()),
        });
        Ok(Response::new(lists.boxed()))
    }
}
