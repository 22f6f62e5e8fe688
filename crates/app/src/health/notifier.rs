//! The state of the checks for the stream by which tools follow it (spec databroker.md 16.5).

use pomerium_api::pb::health::{ComponentStatus, HealthStatus};
use pomerium_databroker::grpc::{HealthTable, State};
use tokio::sync::watch;

use super::{Check, Health, Status};

impl HealthTable for Health {
    fn state(&self) -> State {
        let reported = self.reported();
        let in_service = reported.iter().filter(|(_, check)| check.in_service);
        State {
            in_service: in_service.map(|(&name, _)| name.to_owned()).collect(),
            components: reported
                .into_iter()
                .map(|(name, check)| (name.to_owned(), component(check)))
                .collect(),
            required: self.expected().iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.subscribe()
    }
}

fn component(check: Check) -> ComponentStatus {
    let status = match check.status {
        Status::Running => HealthStatus::Running,
        Status::Terminating => HealthStatus::Terminating,
        Status::Unknown | Status::Unavailable => HealthStatus::Unknown,
    };
    ComponentStatus {
        status: status.into(),
        attributes: check.attributes.to_map(),
        err: check.error,
    }
}

#[cfg(test)]
mod tests {
    use pomerium_config::settings::Services;

    use super::*;

    #[test]
    fn what_was_reported_is_told_and_what_is_expected_named() {
        let health = Health::new(Services::ALL);
        let changes = health.changes();
        health.report("proxy.service", Status::Running);
        health.report_error("storage.backend", "disk full");
        health.describe("storage.backend", "backend", "file");
        assert!(changes.has_changed().is_ok_and(|changed| changed));
        let state = health.state();
        assert_eq!(state.components.len(), 2);
        assert_eq!(state.components["proxy.service"].status(), HealthStatus::Running);
        assert_eq!(
            state.components["storage.backend"].err.as_deref(),
            Some("disk full")
        );
        assert_eq!(state.components["storage.backend"].attributes["backend"], "file");
        assert!(state.components["proxy.service"].attributes.is_empty());
        assert!(state.required.iter().any(|name| name == "storage.backend"));
    }
}
