//! What is running and what is not (spec databroker.md 16). Parts report here; [`server`] tells probes
//! and [`systemd`] tells the service manager.

pub mod server;
pub mod systemd;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

/// The checks this process is expected to report. The names are those of the original, its proxy's
/// included, so that existing probes and dashboards keep working.
pub const REQUIRED: &[&str] = &[
    "authenticate.service",
    "authorize.service",
    "config.databroker.build",
    "databroker.cluster",
    "databroker.sync.initial",
    "envoy.server",
    "proxy.service",
    "storage.backend",
    "xds.cluster",
    "xds.listener",
    "xds.route-configuration",
];

/// State of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Not started.
    Unknown,
    /// Does its work.
    Running,
    /// Draining.
    Terminating,
    /// Never reported; only seen in answers.
    Unavailable,
}

/// One check as probes see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// State.
    pub status: Status,
    /// What is wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of every check.
#[derive(Debug)]
pub struct Health {
    checks: Mutex<BTreeMap<&'static str, Check>>,
    changed: watch::Sender<u64>,
}

/// What a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Every check has been reported.
    Startup,
    /// Every check runs without error.
    Ready,
    /// No check has an error.
    Live,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            checks: Mutex::default(),
            changed: watch::channel(0).0,
        }
    }
}

impl Health {
    /// A part reports its state; an earlier error of it is gone.
    pub fn report(&self, name: &'static str, status: Status) {
        self.set(name, Check { status, error: None });
    }

    /// A part reports an error and keeps its state.
    pub fn report_error(&self, name: &'static str, error: impl Into<String>) {
        let status = self
            .checks
            .lock()
            .get(name)
            .map_or(Status::Unknown, |check| check.status);
        self.set(
            name,
            Check {
                status,
                error: Some(error.into()),
            },
        );
    }

    /// A part that reported an error works again; its state stays.
    pub fn recover(&self, name: &'static str) {
        let mut checks = self.checks.lock();
        if let Some(check) = checks.get_mut(name).filter(|check| check.error.is_some()) {
            check.error = None;
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Every part is going away.
    pub fn terminate(&self) {
        for name in REQUIRED {
            self.report(name, Status::Terminating);
        }
    }

    /// Follows changes; the value has no meaning.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether a probe succeeds.
    pub fn passes(&self, probe: Probe) -> bool {
        let checks = self.checks.lock();
        REQUIRED
            .iter()
            .all(|name| checks.get(name).is_some_and(|check| probe.accepts(check)))
    }

    /// The expected checks, with those that never reported filled in.
    pub fn required(&self) -> BTreeMap<&'static str, Check> {
        let checks = self.checks.lock();
        REQUIRED
            .iter()
            .map(|name| (*name, checks.get(name).cloned().unwrap_or_else(|| missing(name))))
            .collect()
    }

    /// Everything that was reported.
    pub fn reported(&self) -> BTreeMap<&'static str, Check> {
        self.checks.lock().clone()
    }

    fn set(&self, name: &'static str, check: Check) {
        let mut checks = self.checks.lock();
        if checks.get(name) != Some(&check) {
            checks.insert(name, check);
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

impl Probe {
    fn accepts(self, check: &Check) -> bool {
        match self {
            Self::Startup => check.status != Status::Unknown,
            Self::Ready => check.status == Status::Running && check.error.is_none(),
            Self::Live => check.status != Status::Unknown && check.error.is_none(),
        }
    }
}

fn missing(name: &str) -> Check {
    let error = format!("expected ':{name}' to have been reported on, but was not");
    Check {
        status: Status::Unavailable,
        error: Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_running() -> Health {
        let health = Health::default();
        for name in REQUIRED {
            health.report(name, Status::Running);
        }
        health
    }

    #[test]
    fn nothing_passes_before_every_part_has_reported() {
        let health = Health::default();
        health.report("proxy.service", Status::Running);
        for probe in [Probe::Startup, Probe::Ready, Probe::Live] {
            assert!(!health.passes(probe));
        }
    }

    #[test]
    fn an_error_makes_it_unready_and_unhealthy_but_it_has_started() {
        let health = all_running();
        assert!(health.passes(Probe::Ready));
        health.report_error("storage.backend", "disk full");
        assert!(!health.passes(Probe::Ready));
        assert!(!health.passes(Probe::Live));
        assert!(health.passes(Probe::Startup));
    }

    #[test]
    fn terminating_is_alive_but_not_ready() {
        let health = all_running();
        health.terminate();
        assert!(!health.passes(Probe::Ready));
        assert!(health.passes(Probe::Live));
    }
}
