//! `grpc.health.v1.Health`: whether this process answers at all, for load balancers. It answers for every name, as the
//! original does; how the parts of the process are is another service's to tell (`health`).

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use pomerium_api::pb::grpc_health::health_check_response::ServingStatus;
use pomerium_api::pb::grpc_health::health_server::Health;
use pomerium_api::pb::grpc_health::{HealthCheckRequest, HealthCheckResponse};
use tonic::{Request, Response, Status};

/// The service.
pub(super) struct Alive;

const SERVING: HealthCheckResponse = HealthCheckResponse {
    status: ServingStatus::Serving as i32,
};

#[tonic::async_trait]
impl Health for Alive {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(SERVING))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let states = stream::iter([Ok(SERVING)]).chain(stream::pending());
        Ok(Response::new(states.boxed()))
    }
}
