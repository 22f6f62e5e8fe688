//! What is running and what is not (spec databroker.md 16). Parts report here; [`server`] tells probes
//! and [`systemd`] tells the service manager.

mod attributes;
mod metrics;
mod notifier;
pub mod server;
pub mod systemd;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pomerium_config::settings::Services;
use prometheus::Registry;
use serde::Serialize;
use tokio::sync::watch;

pub use self::attributes::Attributes;
use self::metrics::HealthMetrics;

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
    /// Whether the part does its work all the same: nobody is to take the process out of service for the error.
    #[serde(skip)]
    pub in_service: bool,
    /// What else is known of the part.
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}

impl Check {
    fn is_well(&self) -> bool {
        self.error.is_none() || self.in_service
    }
}

/// The state of every check.
#[derive(Debug)]
pub struct Health {
    expected: Vec<&'static str>,
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    metrics: Option<HealthMetrics>,
}

#[derive(Debug, Default)]
struct Table {
    /// What was reported.
    checks: BTreeMap<&'static str, Check>,
    /// Of every check that has some, reported or not.
    attributes: BTreeMap<&'static str, Attributes>,
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
            table: Mutex::default(),
            changed: watch::channel(0).0,
            metrics: None,
        }
    }

    /// As [`Self::new`], and told in the metrics of `registry` as well.
    ///
    /// Errors when the registry has such metrics already.
    pub fn measured(services: Services, registry: &Registry) -> Result<Self, prometheus::Error> {
        let health = Self::new(services);
        let metrics = HealthMetrics::register(registry, &health.expected)?;
        Ok(Self {
            metrics: Some(metrics),
            ..health
        })
    }

    /// The checks that must be reported.
    pub fn expected(&self) -> &[&'static str] {
        &self.expected
    }

    /// A part reports its state; an earlier error of it is gone.
    pub fn report(&self, name: &'static str, status: Status) {
        self.table(|table| {
            self.change(table, name, |check| {
                check.status = status;
                check.error = None;
                check.in_service = false;
            });
        });
    }

    /// A part reports an error and keeps its state.
    pub fn report_error(&self, name: &'static str, error: impl Into<String>) {
        self.note_error(name, error.into(), false);
    }

    /// A part reports something that people have to see to, and does its work: it shows as an error, and probes pass.
    pub fn warn(&self, name: &'static str, error: impl Into<String>) {
        self.note_error(name, error.into(), true);
    }

    fn note_error(&self, name: &'static str, error: String, in_service: bool) {
        self.table(|table| {
            self.change(table, name, |check| {
                check.error = Some(error);
                check.in_service = in_service;
            });
        });
    }

    /// A part that reported an error works again; its state stays.
    pub fn recover(&self, name: &'static str) {
        self.table(|table| {
            if table.checks.contains_key(name) {
                self.change(table, name, |check| check.error = None);
            }
        });
    }

    /// Says something else about a part. It stays through later reports, and is none itself: a check that was never
    /// reported is still missing.
    pub fn describe(&self, name: &'static str, key: &'static str, value: &'static str) {
        self.table(|table| {
            table.attributes.entry(name).or_default().set(key, value);
            if table.checks.contains_key(name) {
                self.change(table, name, |_| {});
            }
        });
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
        self.table(|table| self.all(table, probe))
    }

    /// The expected checks, with those that never reported filled in.
    pub fn required(&self) -> BTreeMap<&'static str, Check> {
        let mut checks = self.reported();
        self.expected
            .iter()
            .map(|&name| (name, checks.remove(name).unwrap_or_else(|| missing(name))))
            .collect()
    }

    /// Everything that was reported.
    pub fn reported(&self) -> BTreeMap<&'static str, Check> {
        self.table(|table| table.checks.clone())
    }

    fn table<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        work(&mut self.table.lock())
    }

    /// Changes what is known of a check, and tells whoever follows if that is something new.
    fn change(&self, table: &mut Table, name: &'static str, change: impl FnOnce(&mut Check)) {
        let before = table.checks.get(name);
        let mut check = before.cloned().unwrap_or(Check {
            status: Status::Unknown,
            error: None,
            in_service: false,
            attributes: Attributes::default(),
        });
        change(&mut check);
        check.attributes = table.attributes.get(name).cloned().unwrap_or_default();
        if before == Some(&check) {
            return;
        }
        table.checks.insert(name, check.clone());
        if let Some(metrics) = &self.metrics {
            metrics.tell(name, &check);
            if self.all(table, Probe::Ready) {
                metrics.started();
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn all(&self, table: &Table, probe: Probe) -> bool {
        let accepted = |name| table.checks.get(name).is_some_and(|check| probe.accepts(check));
        self.expected.iter().all(accepted)
    }
}

impl Probe {
    fn accepts(self, check: &Check) -> bool {
        match self {
            Self::Startup => check.status != Status::Unknown,
            Self::Ready => check.status == Status::Running && check.is_well(),
            Self::Live => check.status != Status::Unknown && check.is_well(),
        }
    }
}

fn missing(name: &str) -> Check {
    let error = format!("expected ':{name}' to have been reported on, but was not");
    Check {
        status: Status::Unavailable,
        error: Some(error),
        in_service: false,
        attributes: Attributes::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn a_part_that_works_all_the_same_keeps_it_in_service() {
        let health = all_running();
        health.warn("storage.backend", "a damaged record");
        for probe in [Probe::Startup, Probe::Ready, Probe::Live] {
            assert!(health.passes(probe));
        }
        let shown = json!(health.required())["storage.backend"].clone();
        assert_eq!(shown, json!({ "status": "RUNNING", "error": "a damaged record" }));
        health.report_error("storage.backend", "disk full");
        assert!(!health.passes(Probe::Ready));
        health.warn("storage.backend", "a damaged record");
        health.recover("storage.backend");
        assert_eq!(health.required()["storage.backend"].error, None);
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

    #[test]
    fn what_is_said_of_a_part_stays_and_is_no_report() {
        let health = Health::new(Services::ALL);
        health.describe("storage.backend", "backend", "file");
        assert!(health.reported().is_empty());
        assert!(health.required()["storage.backend"].attributes.is_empty());
        health.report("storage.backend", Status::Running);
        health.report_error("storage.backend", "disk full");
        let check = |name| serde_json::to_value(&health.reported()[name]).unwrap();
        let attributes = |value| json!([{"Key": "backend", "Value": value}]);
        assert_eq!(
            check("storage.backend"),
            json!({"status": "RUNNING", "error": "disk full", "attributes": attributes("file")})
        );
        let changes = health.subscribe();
        health.describe("storage.backend", "backend", "file");
        assert!(!changes.has_changed().unwrap(), "nothing new");
        health.describe("storage.backend", "backend", "postgres");
        assert!(changes.has_changed().unwrap());
        assert_eq!(check("storage.backend")["attributes"], attributes("postgres"));
        health.report("proxy.service", Status::Running);
        assert_eq!(
            check("proxy.service"),
            json!({"status": "RUNNING"}),
            "none are left out"
        );
    }
}
