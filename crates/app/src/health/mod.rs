//! What is running and what is not (spec databroker.md 16). Parts report here; [`server`] tells probes
//! and [`systemd`] tells the service manager.

mod notifier;
pub mod server;
pub mod systemd;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pomerium_config::settings::Services;
use serde::Serialize;
use tokio::sync::watch;

/// The checks a process with `services` is expected to report. The names are those of the original, its proxy's
/// included, so that existing probes and dashboards keep working.
///
/// That the databroker of another process cannot be reached is not among them: people who are signed in are served
/// meanwhile, so nobody must take this process out of service for it.
pub fn expected(services: Services) -> Vec<&'static str> {
    let parts: [(bool, &[&str]); 5] = [
        (services.authenticate, &["authenticate.service"]),
        (services.authorize, &["authorize.service"]),
        (
            services.databroker,
            &[
                "config.databroker.build",
                "databroker.cluster",
                "databroker.sync.initial",
                "storage.backend",
            ],
        ),
        (services.proxy, &["proxy.service", "xds.route-configuration"]),
        (true, &["envoy.server", "xds.cluster", "xds.listener"]),
    ];
    let mut names: Vec<_> = parts
        .into_iter()
        .filter(|(runs, _)| *runs)
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    names.sort_unstable();
    names
}

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
    expected: Vec<&'static str>,
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

impl Health {
    /// For a process with `services`; nothing is reported yet.
    pub fn new(services: Services) -> Self {
        Self {
            expected: expected(services),
            checks: Mutex::default(),
            changed: watch::channel(0).0,
        }
    }

    /// The checks that must be reported.
    pub fn expected(&self) -> &[&'static str] {
        &self.expected
    }

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
        for name in &self.expected {
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
        self.expected
            .iter()
            .all(|name| checks.get(name).is_some_and(|check| probe.accepts(check)))
    }

    /// The expected checks, with those that never reported filled in.
    pub fn required(&self) -> BTreeMap<&'static str, Check> {
        let checks = self.checks.lock();
        self.expected
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
        let health = Health::new(Services::ALL);
        for name in expected(Services::ALL) {
            health.report(name, Status::Running);
        }
        health
    }

    #[test]
    fn nothing_passes_before_every_part_has_reported() {
        let health = Health::new(Services::ALL);
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
    fn a_process_is_expected_to_report_what_it_runs() {
        let proxy = Services {
            proxy: true,
            ..Services::NONE
        };
        assert_eq!(
            expected(proxy),
            [
                "envoy.server",
                "proxy.service",
                "xds.cluster",
                "xds.listener",
                "xds.route-configuration"
            ]
        );
        assert!(expected(Services::ALL).len() > expected(proxy).len());
    }

    #[test]
    fn terminating_is_alive_but_not_ready() {
        let health = all_running();
        health.terminate();
        assert!(!health.passes(Probe::Ready));
        assert!(health.passes(Probe::Live));
    }
}
