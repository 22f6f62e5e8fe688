//! Counters of the data plane, resolved once: a request only adds to atomics. No label takes a value
//! from a request.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::upstream::health::HealthMetrics;

/// Seconds; from a cached answer to a slow report.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// Forwarded, redirected or answered as the route says.
    Allow,
    /// Refused.
    Deny,
    /// Asked to sign in.
    Login,
    /// Could not be judged: refused.
    Error,
}

/// All handles of the data plane.
#[derive(Debug)]
pub struct Metrics {
    classes: [IntCounter; 6],
    decisions: [IntCounter; 4],
    duration: Histogram,
    upstream_connects: IntCounter,
    upstream_connect_errors: IntCounter,
    upstream_failures: IntCounter,
    upstream_overflows: IntCounter,
    dns_failures: IntCounter,
    /// Health checks and outlier detection.
    pub(crate) health: HealthMetrics,
    /// Open downstream connections.
    pub connections: IntGauge,
    /// Downstream connections accepted.
    pub connections_total: IntCounter,
    /// Connections refused at the cap.
    pub connections_refused: IntCounter,
    /// Connections without the PROXY protocol header they had to begin with.
    pub proxy_protocol_refused: IntCounter,
    /// Connections to the listener for other proxies from peers that are not trusted.
    pub decision_peers_refused: IntCounter,
    /// TLS handshakes that failed or timed out.
    pub handshake_failures: IntCounter,
    /// Requests refused before routing.
    pub refused_requests: IntCounter,
    /// Request heads that did not arrive in time.
    pub slow_heads: IntCounter,
    /// Requests over a rate limit.
    pub rate_limited: IntCounter,
    /// Running requests.
    pub active_requests: IntGauge,
    /// Open tunnels (WebSocket and other upgrades).
    pub tunnels: IntGauge,
    /// Snapshots taken into use.
    pub reloads: IntCounter,
    /// Log lines dropped because the writer could not keep up.
    pub log_drops: IntCounter,
}

const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
const DECISIONS: [&str; 4] = ["allow", "deny", "login", "error"];

impl Metrics {
    /// Registers everything in `registry`. Errors when a name is taken already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let family = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let classes = family(
            "pomerium_http_requests_total",
            "Requests by status class.",
            "class",
        )?;
        let decisions = family(
            "pomerium_decisions_total",
            "Decisions about requests to routes.",
            "decision",
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "pomerium_http_request_duration_seconds",
                "Request start to last byte.",
            )
            .buckets(BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Self {
            classes: CLASSES.map(|class| classes.with_label_values(&[class])),
            decisions: DECISIONS.map(|decision| decisions.with_label_values(&[decision])),
            duration,
            upstream_connects: counter(
                "pomerium_upstream_connects_total",
                "Upstream connections dialled.",
            )?,
            upstream_connect_errors: counter("pomerium_upstream_connect_errors_total", "Dials that failed.")?,
            upstream_failures: counter(
                "pomerium_upstream_failures_total",
                "Requests without an upstream answer.",
            )?,
            upstream_overflows: counter(
                "pomerium_upstream_overflows_total",
                "Requests refused at a limit of their cluster.",
            )?,
            dns_failures: counter(
                "pomerium_upstream_dns_failures_total",
                "Lookups of upstream names that failed.",
            )?,
            health: HealthMetrics::register(registry)?,
            connections: gauge("pomerium_downstream_connections", "Open downstream connections.")?,
            connections_total: counter("pomerium_downstream_connections_total", "Connections accepted.")?,
            connections_refused: counter(
                "pomerium_downstream_connections_refused_total",
                "Closed at the cap.",
            )?,
            proxy_protocol_refused: counter(
                "pomerium_proxy_protocol_refused_total",
                "Connections closed for want of a PROXY protocol header.",
            )?,
            decision_peers_refused: counter(
                "pomerium_decision_peers_refused_total",
                "Connections to the decision listener from peers that are not trusted.",
            )?,
            handshake_failures: counter(
                "pomerium_tls_handshake_failures_total",
                "TLS handshakes not finished.",
            )?,
            refused_requests: counter(
                "pomerium_http_requests_refused_total",
                "Requests refused before routing.",
            )?,
            slow_heads: counter(
                "pomerium_http_slow_heads_total",
                "Connections and streams ended because a request head did not arrive in time.",
            )?,
            rate_limited: counter("pomerium_rate_limited_total", "Requests over a rate limit.")?,
            active_requests: gauge("pomerium_http_requests_active", "Running requests.")?,
            tunnels: gauge("pomerium_tunnels_active", "Open upgraded connections.")?,
            reloads: counter(
                "pomerium_snapshot_reloads_total",
                "Route snapshots taken into use.",
            )?,
            log_drops: counter(
                "pomerium_access_log_dropped_total",
                "Log lines dropped: writer too slow.",
            )?,
        })
    }

    /// A request has ended.
    pub fn request(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100);
        self.classes.get(class).unwrap_or(&self.classes[0]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A request to a route was judged.
    pub fn decided(&self, decided: Decided) {
        self.decisions[decided as usize].inc();
    }

    /// An upstream gave no answer.
    pub fn upstream_failure(&self) {
        self.upstream_failures.inc();
    }

    pub(crate) fn upstream_overflow(&self) {
        self.upstream_overflows.inc();
    }

    pub(crate) fn dns_failure(&self) {
        self.dns_failures.inc();
    }

    pub(crate) fn upstream_connect(&self) {
        self.upstream_connects.inc();
    }

    pub(crate) fn upstream_connect_error(&self) {
        self.upstream_connect_errors.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_exposed_with_fixed_labels() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        metrics.request(200, Duration::from_millis(3));
        metrics.request(999, Duration::ZERO);
        metrics.decided(Decided::Login);
        let families = registry.gather();
        let requests = families
            .iter()
            .find(|family| family.name() == "pomerium_http_requests_total")
            .unwrap();
        assert_eq!(requests.get_metric().len(), CLASSES.len());
        let by_class = |class: &str| {
            let found = requests
                .get_metric()
                .iter()
                .find(|metric| metric.get_label()[0].value() == class);
            found.unwrap().get_counter().get_value()
        };
        assert!(
            (by_class("2xx") - 1.0).abs() < f64::EPSILON && (by_class("other") - 1.0).abs() < f64::EPSILON
        );
        assert!(Metrics::register(&registry).is_err());
    }
}
