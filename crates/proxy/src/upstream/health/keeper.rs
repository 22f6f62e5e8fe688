//! The background work for one cluster whose health is watched: it follows the hosts, probes each of
//! them, and ends the intervals of outlier detection. Ends with its cluster.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pomerium_config::settings::{Balance, HealthCheck};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::metrics::Membership;
use super::probe::{Prober, Report};
use super::{Finding, Machine, Step, Watch};
use crate::metrics::Metrics;
use crate::upstream::outlier::Outliers;
use crate::upstream::{Cluster, Host, Upstreams};

/// Pause before a cluster that could not be looked up is looked up again.
const AGAIN: Duration = Duration::from_secs(5);

/// Starts the work for `cluster`. It ends with what is returned, or with the cluster.
pub fn start(
    upstreams: &Arc<Upstreams>,
    cluster: &Arc<Cluster>,
    balance: Arc<Balance>,
) -> AbortOnDropHandle<()> {
    let keeper = Keeper {
        name: cluster.name.clone(),
        upstreams: upstreams.clone(),
        cluster: Arc::downgrade(cluster),
        outliers: None,
        probes: HashMap::new(),
        membership: upstreams.metrics.health.membership(&cluster.name),
        balance,
    };
    let ended = cluster.ended();
    AbortOnDropHandle::new(upstreams.runtime.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = keeper.keep() => {}
        }
    }))
}

struct Keeper {
    name: Box<str>,
    upstreams: Arc<Upstreams>,
    cluster: Weak<Cluster>,
    balance: Arc<Balance>,
    outliers: Option<Arc<Outliers>>,
    /// The tasks of each host; they end when it is gone.
    probes: HashMap<u64, Vec<AbortOnDropHandle<()>>>,
    membership: Membership,
}

impl Keeper {
    async fn keep(mut self) {
        let interval = self
            .balance
            .outlier_detection
            .as_ref()
            .map(|rules| rules.interval);
        let mut next = interval.map(|interval| Instant::now() + interval);
        while self.resolve().await.is_none() {
            sleep(AGAIN).await;
        }
        let Some(mut changes) = self.cluster.upgrade().map(|cluster| cluster.changes()) else {
            return;
        };
        loop {
            changes.mark_unchanged();
            if self.follow().is_none() {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = until(next) => {
                    self.end_interval();
                    next = interval.map(|interval| Instant::now() + interval);
                }
            }
        }
    }

    /// Finds the hosts; `None` when they cannot be found now.
    async fn resolve(&self) -> Option<()> {
        let cluster = self.cluster.upgrade()?;
        match cluster.resolve(&self.upstreams).await {
            Ok(()) => Some(()),
            Err(error) => {
                tracing::warn!(cluster = &*self.name, %error, "the health of this upstream cannot be watched yet");
                None
            }
        }
    }

    /// Begins with hosts that are new and ends with those that are gone.
    fn follow(&mut self) -> Option<()> {
        let cluster = self.cluster.upgrade()?;
        let hosts = cluster.hosts();
        if self.outliers.is_none() {
            self.outliers = self.find_outliers(&hosts);
        }
        self.probes
            .retain(|id, _| hosts.iter().any(|host| host.id == *id));
        for host in hosts.iter() {
            let watch = host.watch(|| Watch::new(self.balance.health_checks.len(), self.outliers.clone()));
            if self.probes.contains_key(&host.id) {
                continue;
            }
            let checks = self.balance.health_checks.iter().enumerate();
            let probes = checks.map(|check| self.probe(check, host, watch)).collect();
            self.probes.insert(host.id, probes);
        }
        if let Some(outliers) = &self.outliers {
            outliers.members(&hosts);
        }
        let healthy = hosts.iter().filter(|host| host.is_usable()).count();
        self.membership.set(hosts.len(), healthy);
        Some(())
    }

    /// Those of the cluster before a reload, when hosts came over from it.
    fn find_outliers(&self, hosts: &[Arc<Host>]) -> Option<Arc<Outliers>> {
        let rules = self.balance.outlier_detection.clone()?;
        let known = hosts
            .iter()
            .find_map(|host| host.watched().and_then(|watch| watch.outliers()).cloned());
        Some(known.unwrap_or_else(|| Outliers::new(rules, &self.name, self.upstreams.metrics.clone())))
    }

    fn end_interval(&self) {
        if let (Some(outliers), Some(cluster)) = (&self.outliers, self.cluster.upgrade()) {
            outliers.tick(&cluster.hosts());
        }
    }

    fn probe(
        &self,
        (number, check): (usize, &HealthCheck),
        host: &Arc<Host>,
        watch: &Arc<Watch>,
    ) -> AbortOnDropHandle<()> {
        let probing = Probing {
            number,
            prober: Prober::new(check.clone(), &self.name, host.clone(), self.upstreams.clone()),
            check: check.clone(),
            name: self.name.clone(),
            host: host.clone(),
            watch: watch.clone(),
            cluster: self.cluster.clone(),
            metrics: self.upstreams.metrics.clone(),
        };
        AbortOnDropHandle::new(self.upstreams.runtime.spawn(probing.run()))
    }
}

/// Waits until then; for ever without a time.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// One check of one host.
struct Probing {
    number: usize,
    check: HealthCheck,
    name: Box<str>,
    host: Arc<Host>,
    watch: Arc<Watch>,
    cluster: Weak<Cluster>,
    prober: Prober,
    metrics: Arc<Metrics>,
}

impl Probing {
    async fn run(mut self) {
        sleep(Machine::first_pause(&self.check, &mut below)).await;
        loop {
            let report = self.prober.probe().await;
            self.metrics.health.checked(report.finding);
            let traffic = self
                .cluster
                .upgrade()
                .is_some_and(|cluster| cluster.has_traffic());
            let step = self.watch.result(
                &self.host,
                (self.number, &self.check),
                (report.finding, traffic),
                &mut below,
            );
            let Some(step) = step else { return };
            self.tell(&report, step);
            sleep(step.pause).await;
        }
    }

    fn tell(&self, report: &Report, step: Step) {
        let (cluster, host, reason) = (&*self.name, self.host.label(), &*report.reason);
        match step.changed {
            Some(true) => tracing::info!(cluster, host, reason, "health check: the host is healthy"),
            Some(false) => tracing::warn!(cluster, host, reason, "health check: the host is unhealthy"),
            None if report.finding == Finding::Good && self.check.log_successes => {
                tracing::info!(cluster, host, reason, "health check: good");
            }
            None if report.finding != Finding::Good && self.check.log_failures => {
                tracing::warn!(cluster, host, reason, "health check: failed");
            }
            None => {}
        }
    }
}

/// A number below `limit` at random; 0 for 0.
pub fn below(limit: u64) -> u64 {
    if limit == 0 {
        0
    } else {
        rand::random_range(0..limit)
    }
}
