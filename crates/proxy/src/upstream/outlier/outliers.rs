//! Outlier detection at work for one cluster: the clock, the log, and the hosts it acts on.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pomerium_config::settings::OutlierDetection;
use tokio::time::Instant;

use super::detector::{Change, Detector, HostId};
use super::monitor::{Monitor, Seen};
use crate::metrics::Metrics;
use crate::upstream::health::below;
use crate::upstream::host::{Host, Outcome};

/// Watches the results of all hosts of a cluster.
#[derive(Debug)]
pub struct Outliers {
    rules: OutlierDetection,
    cluster: Box<str>,
    start: Instant,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    detector: Detector,
    hosts: HashMap<HostId, Weak<Host>>,
}

impl Outliers {
    /// No hosts yet.
    pub fn new(rules: OutlierDetection, cluster: &str, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            rules,
            cluster: cluster.into(),
            start: Instant::now(),
            metrics,
            inner: Mutex::default(),
        })
    }

    /// A request has ended. Takes the lock only when a count is full.
    pub fn note(&self, host: &Host, monitor: &Monitor, outcome: Outcome) {
        for cause in monitor.note(&self.rules, seen(outcome)) {
            monitor.restart(cause);
            let mut inner = self.inner.lock();
            let now = self.start.elapsed();
            let change = inner
                .detector
                .reached(&self.rules, (host.id, cause), now, &mut below);
            self.carry_out(&inner, change);
        }
    }

    /// Takes the hosts there are now.
    pub fn members(&self, hosts: &[Arc<Host>]) {
        let mut inner = self.inner.lock();
        let gone = |id: &&HostId| !hosts.iter().any(|host| host.id == **id);
        for id in inner.hosts.keys().filter(gone) {
            if inner.detector.is_ejected(*id) {
                self.metrics.health.returned();
            }
        }
        inner.detector.members(hosts.iter().map(|host| host.id));
        inner.hosts = hosts.iter().map(|host| (host.id, Arc::downgrade(host))).collect();
    }

    /// The end of an interval.
    pub fn tick(&self, hosts: &[Arc<Host>]) {
        let samples: Vec<_> = hosts
            .iter()
            .filter_map(|host| {
                let (answers, connections) = host.watched()?.monitor()?.take();
                Some((host.id, answers, connections))
            })
            .collect();
        let mut inner = self.inner.lock();
        let now = self.start.elapsed();
        let changes = inner.detector.tick(&self.rules, &samples, now, &mut below);
        self.carry_out(&inner, changes);
    }

    /// A host has passed an active check and is healthy.
    pub fn passed(&self, host: &Host) {
        let mut inner = self.inner.lock();
        let change = inner.detector.passed(&self.rules, host.id);
        self.carry_out(&inner, change);
    }

    /// Under the lock, so that the last decision is the one that stays.
    fn carry_out(&self, inner: &Inner, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            let (Change::Eject(id, ..) | Change::Return(id)) = change;
            let Some(host) = inner.hosts.get(&id).and_then(Weak::upgrade) else {
                continue;
            };
            let (cluster, at) = (&*self.cluster, host.label());
            match change {
                Change::Eject(_, cause, term) => {
                    host.set_ejected(true);
                    self.metrics.health.ejected(cause);
                    let (cause, seconds) = (cause.name(), term.as_secs_f64());
                    tracing::warn!(
                        cluster,
                        host = at,
                        cause,
                        seconds,
                        "outlier detection: the host is out"
                    );
                }
                Change::Return(_) => {
                    if let Some(monitor) = host.watched().and_then(|watch| watch.monitor()) {
                        monitor.restart_all();
                    }
                    host.set_ejected(false);
                    self.metrics.health.returned();
                    tracing::info!(cluster, host = at, "outlier detection: the host is back");
                }
            }
        }
    }
}

fn seen(outcome: Outcome) -> Seen {
    match outcome {
        Outcome::Status(status) => Seen::Status(status),
        Outcome::ConnectFailed | Outcome::Reset | Outcome::Protocol => Seen::Unreachable,
        Outcome::ConnectTimeout | Outcome::ResponseTimeout => Seen::TimedOut,
    }
}
