//! `grpc.health.v1.Health`: whether a service of this process answers, for load balancers. How the parts of the process
//! are in detail is another service's to tell (`health`).
//!
//! A service that this program knows is named by its gRPC name, its short name, or the name that the original's proxies
//! ask for. It serves while its part runs without error; a part that this process lacks is unknown here. Every other
//! name, and none, stands for the process: as with the original it serves, until it begins to stop.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use pomerium_api::pb::grpc_health::health_check_response::ServingStatus;
use pomerium_api::pb::grpc_health::health_server::Health;
use pomerium_api::pb::grpc_health::{HealthCheckRequest, HealthCheckResponse};
use pomerium_api::pb::health::HealthStatus;
use tonic::{Request, Response, Status};

use super::health::{HealthTable, State};

/// The checks that services stand and fall with, and the names of these services.
const KNOWN: [(&str, &[&str]); 4] = [
    (
        "storage.backend",
        &[
            "databroker",
            "pomerium-databroker",
            "databroker.DataBrokerService",
            "databroker.CheckpointService",
            "registry.Registry",
            "pomerium.config.ConfigService",
        ],
    ),
    (
        "authorize.service",
        &[
            "authorize",
            "pomerium-authorize",
            "envoy.service.auth.v3.Authorization",
        ],
    ),
    ("authenticate.service", &["authenticate", "pomerium-authenticate"]),
    ("proxy.service", &["proxy", "pomerium-proxy"]),
];

/// The service.
pub(super) struct Alive(Arc<dyn HealthTable>);

impl Alive {
    pub(super) fn new(table: Arc<dyn HealthTable>) -> Self {
        Self(table)
    }
}

/// How `service` is.
fn status(service: &str, state: &State) -> ServingStatus {
    let serving = |serves| match serves {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    let known = KNOWN.iter().find(|(_, names)| names.contains(&service));
    let Some((check, _)) = known else {
        let stopping = state.required.iter().any(|name| {
            let part = state.components.get(name);
            part.is_some_and(|part| part.status() == HealthStatus::Terminating)
        });
        return serving(!stopping);
    };
    if !state.required.iter().any(|name| name == check) {
        return ServingStatus::ServiceUnknown;
    }
    let works = state.in_service.iter().any(|name| name == check);
    let part = state.components.get(*check);
    serving(part.is_some_and(|part| part.status() == HealthStatus::Running && (part.err.is_none() || works)))
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Alive {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&request.get_ref().service, &self.0.state()) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("this process does not run that service")),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// The state at once, and again whenever it is another one.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let table = Arc::clone(&self.0);
        let changes = table.changes();
        let states = stream::unfold((table, changes, None), move |(table, mut changes, told)| {
            let service = service.clone();
            async move {
                loop {
                    changes.mark_unchanged();
                    let status = status(&service, &table.state());
                    if told != Some(status) {
                        return Some((Ok(response(status)), (table, changes, Some(status))));
                    }
                    changes.changed().await.ok()?;
                }
            }
        });
        Ok(Response::new(states.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use pomerium_api::pb::health::ComponentStatus;

    use super::*;

    fn state(parts: &[(&str, HealthStatus, Option<&str>)]) -> State {
        let component = |(name, status, err): &(&str, HealthStatus, Option<&str>)| {
            let status = ComponentStatus {
                status: (*status).into(),
                err: err.map(str::to_owned),
                ..ComponentStatus::default()
            };
            ((*name).to_owned(), status)
        };
        State {
            components: parts.iter().map(component).collect(),
            required: vec!["storage.backend".into(), "authorize.service".into()],
            in_service: Vec::new(),
        }
    }

    #[test]
    fn each_service_is_told_by_its_part() {
        use HealthStatus::{Running, Terminating};
        use ServingStatus::{NotServing, ServiceUnknown, Serving};
        let starting = state(&[("storage.backend", Running, None)]);
        for (service, expected) in [
            ("", Serving),
            ("anything", Serving),
            ("pomerium-databroker", Serving),
            ("databroker.DataBrokerService", Serving),
            ("envoy.service.auth.v3.Authorization", NotServing),
            ("pomerium-proxy", ServiceUnknown),
        ] {
            assert_eq!(status(service, &starting), expected, "{service}");
        }
        let broken = state(&[
            ("storage.backend", Running, Some("disk full")),
            ("authorize.service", Running, None),
        ]);
        assert_eq!(status("databroker", &broken), NotServing);
        assert_eq!(status("authorize", &broken), Serving);
        assert_eq!(status("", &broken), Serving);
        let damaged = State {
            in_service: vec!["storage.backend".into()],
            ..state(&[("storage.backend", Running, Some("a damaged record"))])
        };
        assert_eq!(status("pomerium-databroker", &damaged), Serving);
        let stopping = state(&[("storage.backend", Terminating, None)]);
        assert_eq!(status("", &stopping), NotServing);
        assert_eq!(status("databroker", &stopping), NotServing);
    }
}
