//! The state of the checks as metrics (spec databroker.md 16.6).

use std::sync::Once;

use prometheus::{Gauge, IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::time::Instant;

use super::{Check, Status};

/// What a check can be, as a label says it.
const STATES: [&str; 4] = [RUNNING, TERMINATING, ERROR, UNKNOWN];
const RUNNING: &str = "running";
const TERMINATING: &str = "terminating";
const ERROR: &str = "error";
const UNKNOWN: &str = "unknown";

/// The metrics of the checks.
#[derive(Debug)]
pub(super) struct HealthMetrics {
    status: IntGaugeVec,
    reports: IntCounterVec,
    startup: Gauge,
    began: Instant,
    started: Once,
}

impl HealthMetrics {
    /// Creates and registers them; the start is measured from here. The checks that are `expected` are unknown until they
    /// are told of.
    pub(super) fn register(registry: &Registry, expected: &[&str]) -> Result<Self, prometheus::Error> {
        let status = Opts::new(
            "pomerium_health_status",
            "1 for the state that a check is in, 0 for the others. A check with an error is in no other state.",
        );
        let reports = Opts::new(
            "pomerium_health_status_total",
            "Reports of checks by state, without those that said nothing new.",
        );
        let metrics = Self {
            status: IntGaugeVec::new(status, &["check", "status"])?,
            reports: IntCounterVec::new(reports, &["check", "status"])?,
            startup: Gauge::new(
                "pomerium_health_startup_duration_seconds",
                "Seconds it took at the start until every check was well; 0 until then.",
            )?,
            began: Instant::now(),
            started: Once::new(),
        };
        registry.register(Box::new(metrics.status.clone()))?;
        registry.register(Box::new(metrics.reports.clone()))?;
        registry.register(Box::new(metrics.startup.clone()))?;
        for name in expected {
            metrics.show(name, UNKNOWN);
        }
        Ok(metrics)
    }

    /// A check has changed.
    pub(super) fn tell(&self, name: &str, check: &Check) {
        let state = state(check);
        self.show(name, state);
        self.reports.with_label_values(&[name, state]).inc();
    }

    /// Every check is well. Only the first time counts.
    pub(super) fn started(&self) {
        self.started
            .call_once(|| self.startup.set(self.began.elapsed().as_secs_f64()));
    }

    fn show(&self, name: &str, state: &str) {
        for each in STATES {
            let gauge = self.status.with_label_values(&[name, each]);
            gauge.set(i64::from(each == state));
        }
    }
}

fn state(check: &Check) -> &'static str {
    match (&check.error, check.status) {
        (Some(_), _) => ERROR,
        (None, Status::Running) => RUNNING,
        (None, Status::Terminating) => TERMINATING,
        (None, Status::Unknown | Status::Unavailable) => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pomerium_config::settings::Services;
    use prometheus::TextEncoder;

    use super::super::Health;
    use super::*;

    const CHECK: &str = "proxy.service";

    struct Stage {
        registry: Registry,
        health: Health,
    }

    impl Stage {
        fn new() -> Self {
            let registry = Registry::new();
            let health = Health::measured(Services::ALL, &registry).unwrap();
            Self { registry, health }
        }

        fn has(&self, line: &str) -> bool {
            let text = TextEncoder::new()
                .encode_to_string(&self.registry.gather())
                .unwrap();
            text.lines().any(|each| each == line)
        }

        /// The states the check is in.
        fn states(&self) -> Vec<&'static str> {
            let mut states = STATES.to_vec();
            states.retain(|state| {
                let series = format!("pomerium_health_status{{check=\"{CHECK}\",status=\"{state}\"}}");
                let is = self.has(&format!("{series} 1"));
                assert!(is || self.has(&format!("{series} 0")), "{series}");
                is
            });
            states
        }
    }

    #[test]
    fn a_check_is_in_one_state_at_a_time() {
        let stage = Stage::new();
        assert_eq!(stage.states(), [UNKNOWN]);
        stage.health.report(CHECK, Status::Running);
        assert_eq!(stage.states(), [RUNNING]);
        stage.health.report_error(CHECK, "no");
        stage.health.report_error(CHECK, "no");
        assert_eq!(stage.states(), [ERROR]);
        stage.health.recover(CHECK);
        assert_eq!(stage.states(), [RUNNING]);
        stage.health.terminate();
        assert_eq!(stage.states(), [TERMINATING]);
        for (state, reports) in [(RUNNING, 2), (ERROR, 1), (TERMINATING, 1)] {
            let line =
                format!("pomerium_health_status_total{{check=\"{CHECK}\",status=\"{state}\"}} {reports}");
            assert!(stage.has(&line), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_start_is_over_when_every_check_is_well_for_the_first_time() {
        let stage = Stage::new();
        let (last, others) = stage.health.expected().split_last().unwrap();
        for name in others {
            stage.health.report(name, Status::Running);
        }
        assert!(stage.has("pomerium_health_startup_duration_seconds 0"));
        tokio::time::advance(Duration::from_millis(1500)).await;
        stage.health.report(last, Status::Running);
        assert!(stage.has("pomerium_health_startup_duration_seconds 1.5"));
        tokio::time::advance(Duration::from_secs(5)).await;
        stage.health.report_error(last, "ill");
        stage.health.recover(last);
        assert!(stage.has("pomerium_health_startup_duration_seconds 1.5"));
    }
}
