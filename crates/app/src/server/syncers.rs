//! Numbers about the syncers: whoever follows the databroker in this process (spec databroker.md 5.3).

use std::sync::Arc;
use std::time::Duration;

use pomerium_api::databroker::{SyncCall, SyncObserver, SyncState, Versions};
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, Opts, Registry};

/// What each number is about.
const LABELS: [&str; 2] = ["record_type", "syncer_id"];

/// The numbers of every syncer.
#[derive(Debug, Clone)]
pub struct SyncerMetrics {
    active: GaugeVec,
    server_version: GaugeVec,
    latest_record_version: GaugeVec,
    sync: Calls,
    sync_latest: Calls,
    clear_records: Work,
    update_records: Work,
}

/// How often the databroker was asked.
#[derive(Debug, Clone)]
struct Calls<V = IntCounterVec> {
    total: V,
    failures: V,
}

/// How often something was done, and how long it took in all.
#[derive(Debug, Clone)]
struct Work<N = IntCounterVec, D = CounterVec> {
    total: N,
    seconds: D,
}

/// The numbers of one syncer.
struct Observed {
    active: Gauge,
    server_version: Gauge,
    latest_record_version: Gauge,
    sync: Calls<IntCounter>,
    sync_latest: Calls<IntCounter>,
    clear_records: Work<IntCounter, Counter>,
    update_records: Work<IntCounter, Counter>,
}

impl SyncerMetrics {
    /// Creates and registers them. Errors when a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            active: gauges(
                registry,
                "active",
                "What a syncer is at: 0 nothing, 1 it follows changes, 2 it is on its way there.",
            )?,
            server_version: gauges(registry, "server_version", "The database that a syncer follows.")?,
            latest_record_version: gauges(
                registry,
                "latest_record_version",
                "The version up to which a syncer has followed.",
            )?,
            sync: Calls::register(registry, "sync", "the changes")?,
            sync_latest: Calls::register(registry, "sync_latest", "everything")?,
            clear_records: Work::register(registry, "clear_records", "left out what had gone")?,
            update_records: Work::register(registry, "update_records", "took records over")?,
        };
        Ok(metrics)
    }

    /// Those of the syncer `id`, which follows the records of `record_type`; of every type when that is empty.
    pub fn of(&self, record_type: &str, id: &str) -> Arc<dyn SyncObserver> {
        let labels = [record_type, id];
        Arc::new(Observed {
            active: self.active.with_label_values(&labels),
            server_version: self.server_version.with_label_values(&labels),
            latest_record_version: self.latest_record_version.with_label_values(&labels),
            sync: self.sync.of(&labels),
            sync_latest: self.sync_latest.of(&labels),
            clear_records: self.clear_records.of(&labels),
            update_records: self.update_records.of(&labels),
        })
    }
}

impl Calls {
    fn register(registry: &Registry, call: &str, what: &str) -> Result<Self, prometheus::Error> {
        Ok(Self {
            total: counters(
                registry,
                &format!("{call}_total"),
                &format!("How often a syncer asked for {what}."),
            )?,
            failures: counters(
                registry,
                &format!("{call}_failures_total"),
                &format!("How often a syncer that asked for {what} got no answer, or none to the end."),
            )?,
        })
    }

    fn of(&self, labels: &[&str; 2]) -> Calls<IntCounter> {
        Calls {
            total: self.total.with_label_values(labels),
            failures: self.failures.with_label_values(labels),
        }
    }
}

impl Work {
    fn register(registry: &Registry, work: &str, what: &str) -> Result<Self, prometheus::Error> {
        let seconds = options(
            &format!("{work}_duration_seconds_total"),
            &format!("Seconds in all in which a syncer {what}."),
        );
        let seconds = CounterVec::new(seconds, &LABELS)?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            total: counters(
                registry,
                &format!("{work}_total"),
                &format!("How often a syncer {what}."),
            )?,
            seconds,
        })
    }

    fn of(&self, labels: &[&str; 2]) -> Work<IntCounter, Counter> {
        Work {
            total: self.total.with_label_values(labels),
            seconds: self.seconds.with_label_values(labels),
        }
    }
}

impl Work<IntCounter, Counter> {
    fn done(&self, took: Duration) {
        self.total.inc();
        self.seconds.inc_by(took.as_secs_f64());
    }
}

impl Observed {
    fn calls(&self, call: SyncCall) -> &Calls<IntCounter> {
        match call {
            SyncCall::Sync => &self.sync,
            SyncCall::SyncLatest => &self.sync_latest,
        }
    }
}

impl SyncObserver for Observed {
    fn state(&self, state: SyncState) {
        self.active.set(match state {
            SyncState::Inactive => 0.0,
            SyncState::Active => 1.0,
            SyncState::Pending => 2.0,
        });
    }

    fn reached(&self, at: Versions) {
        // Prometheus knows no other numbers; of the name of a database the first digits are enough.
        self.server_version.set(at.server_version as f64);
        self.latest_record_version.set(at.latest_record_version as f64);
    }

    fn asked(&self, call: SyncCall) {
        self.calls(call).total.inc();
    }

    fn failed(&self, call: SyncCall) {
        self.calls(call).failures.inc();
    }

    fn cleared(&self, took: Duration) {
        self.clear_records.done(took);
    }

    fn updated(&self, took: Duration) {
        self.update_records.done(took);
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("pomerium_databroker_syncer_{name}"), help)
}

fn gauges(registry: &Registry, name: &str, help: &str) -> Result<GaugeVec, prometheus::Error> {
    let gauges = GaugeVec::new(options(name, help), &LABELS)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn counters(registry: &Registry, name: &str, help: &str) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(options(name, help), &LABELS)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn each_syncer_has_numbers_of_its_own() {
        let registry = Registry::new();
        let metrics = SyncerMetrics::register(&registry).unwrap();
        let (one, other) = (metrics.of("", "records"), metrics.of("t", "other"));
        one.state(SyncState::Pending);
        one.asked(SyncCall::SyncLatest);
        one.failed(SyncCall::SyncLatest);
        one.asked(SyncCall::SyncLatest);
        one.updated(Duration::from_millis(250));
        one.updated(Duration::from_millis(250));
        one.cleared(Duration::from_secs(2));
        one.reached(Versions {
            server_version: 7,
            latest_record_version: 9,
        });
        one.asked(SyncCall::Sync);
        one.failed(SyncCall::Sync);
        other.state(SyncState::Active);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let has = |name: &str, labels: (&str, &str), value: &str| {
            let (kind, id) = labels;
            let line = format!(
                "pomerium_databroker_syncer_{name}{{record_type=\"{kind}\",syncer_id=\"{id}\"}} {value}"
            );
            assert!(text.lines().any(|each| each == line), "{line} in {text}");
        };
        for (name, value) in [
            ("active", "2"),
            ("server_version", "7"),
            ("latest_record_version", "9"),
            ("sync_total", "1"),
            ("sync_failures_total", "1"),
            ("sync_latest_total", "2"),
            ("sync_latest_failures_total", "1"),
            ("clear_records_total", "1"),
            ("clear_records_duration_seconds_total", "2"),
            ("update_records_total", "2"),
            ("update_records_duration_seconds_total", "0.5"),
        ] {
            has(name, ("", "records"), value);
        }
        has("active", ("t", "other"), "1");
        has("sync_total", ("t", "other"), "0");
    }
}
