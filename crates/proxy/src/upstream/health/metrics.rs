//! Counters of health checks and outlier detection. Gauges of single clusters are there only for those
//! whose health is watched, and go with them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::Finding;
use crate::upstream::outlier::Cause;

/// All handles.
#[derive(Debug)]
pub struct HealthMetrics {
    checks: [IntCounter; 3],
    ejections: IntCounterVec,
    ejected: IntGauge,
    healthy: IntGaugeVec,
    total: IntGaugeVec,
    /// How many hold the gauges of a cluster: two for a moment during a reload.
    holders: Arc<Mutex<HashMap<Box<str>, usize>>>,
}

const RESULTS: [&str; 3] = ["good", "no_answer", "bad"];
/// The label that dashboards for Envoy group by.
const CLUSTER: &str = "envoy_cluster_name";

impl HealthMetrics {
    /// Registers everything in `registry`. Errors when a name is taken already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauges = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let made = IntGaugeVec::new(Opts::new(name, help), &[CLUSTER])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let checks = family(
            "pomerium_upstream_health_checks_total",
            "Probes of active health checks.",
            "result",
        )?;
        let ejected = IntGauge::new(
            "pomerium_upstream_hosts_ejected",
            "Hosts that outlier detection has taken out.",
        )?;
        registry.register(Box::new(ejected.clone()))?;
        Ok(Self {
            checks: RESULTS.map(|result| checks.with_label_values(&[result])),
            ejections: family(
                "pomerium_upstream_ejections_total",
                "Hosts taken out by outlier detection.",
                "cause",
            )?,
            ejected,
            healthy: gauges(
                "envoy_cluster_membership_healthy",
                "Hosts of a watched cluster that are healthy.",
            )?,
            total: gauges("envoy_cluster_membership_total", "Hosts of a watched cluster.")?,
            holders: Arc::default(),
        })
    }

    pub(super) fn checked(&self, finding: Finding) {
        self.checks[finding as usize].inc();
    }

    pub(crate) fn ejected(&self, cause: Cause) {
        self.ejections.with_label_values(&[cause.name()]).inc();
        self.ejected.inc();
    }

    pub(crate) fn returned(&self) {
        self.ejected.dec();
    }

    /// The gauges of one cluster, for as long as what is returned lives.
    pub(super) fn membership(&self, cluster: &str) -> Membership {
        *self.holders.lock().entry(cluster.into()).or_default() += 1;
        Membership {
            cluster: cluster.into(),
            holders: self.holders.clone(),
            healthy: self.healthy.clone(),
            total: self.total.clone(),
        }
    }
}

/// The gauges of one cluster.
pub(super) struct Membership {
    cluster: Box<str>,
    holders: Arc<Mutex<HashMap<Box<str>, usize>>>,
    healthy: IntGaugeVec,
    total: IntGaugeVec,
}

impl Membership {
    pub(super) fn set(&self, total: usize, healthy: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.total.with_label_values(&[&*self.cluster]).set(number(total));
        self.healthy
            .with_label_values(&[&*self.cluster])
            .set(number(healthy));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut holders = self.holders.lock();
        if let Some(count) = holders.get_mut(&self.cluster) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        holders.remove(&self.cluster);
        // Absent when the hosts were never found.
        let _ = self.total.remove_label_values(&[&*self.cluster]);
        let _ = self.healthy.remove_label_values(&[&*self.cluster]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauges_of_a_cluster_go_with_the_last_who_holds_them() {
        let registry = Registry::new();
        let metrics = HealthMetrics::register(&registry).unwrap();
        let shown = || {
            let families = registry.gather();
            let family = families
                .iter()
                .find(|family| family.name() == "envoy_cluster_membership_healthy");
            family.map(|family| family.get_metric()[0].get_gauge().get_value())
        };
        let old = metrics.membership("shop");
        old.set(3, 2);
        let new = metrics.membership("shop");
        new.set(3, 1);
        drop(old);
        assert_eq!(shown(), Some(1.0));
        drop(new);
        assert_eq!(shown(), None);
    }
}
