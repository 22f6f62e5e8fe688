//! What the keeper tells: listeners get the certificates, operators the numbers and the alarms.

use std::collections::BTreeMap;
use std::sync::Arc;

use pomerium_certs::LoadedCertificate;
use pomerium_certs::acme::{Observer, Served};
use prometheus::{IntCounter, IntGauge, Registry};

use crate::health::{Health, Status};
use crate::server::certificates::Certificates;

/// The check that tells whether certificates are obtained; probes do not depend on it, the hosts still have theirs.
const CHECK: &str = "autocert";

/// Numbers about certificates by ACME.
#[derive(Debug, Clone)]
pub struct AutocertMetrics {
    renewals: IntCounter,
    certificates: IntGauge,
    next_expires: IntGauge,
    failing: IntGauge,
}

impl AutocertMetrics {
    /// Creates and registers them. Errors when a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let renewals = IntCounter::new(
            "pomerium_autocert_renewals_total",
            "Certificates renewed by ACME.",
        )?;
        registry.register(Box::new(renewals.clone()))?;
        Ok(Self {
            renewals,
            certificates: gauge(
                "pomerium_autocert_certificates_total",
                "Certificates by ACME in use.",
            )?,
            next_expires: gauge(
                "pomerium_autocert_certificate_next_expires_seconds",
                "When the first of the certificates by ACME ends, Unix seconds; 0 without one.",
            )?,
            failing: gauge(
                "pomerium_autocert_failing_certificates",
                "Names whose certificate could not be obtained or renewed at the last attempt.",
            )?,
        })
    }
}

/// The observer of this program.
pub(super) struct Observed {
    certificates: Arc<Certificates>,
    metrics: AutocertMetrics,
    health: Arc<Health>,
}

impl Observed {
    pub(super) fn new(
        certificates: Arc<Certificates>,
        metrics: AutocertMetrics,
        health: Arc<Health>,
    ) -> Self {
        Self {
            certificates,
            metrics,
            health,
        }
    }
}

impl Observer for Observed {
    fn changed(&self, served: Served) {
        let ends = served.certificates.iter().map(LoadedCertificate::not_after).min();
        self.metrics.next_expires.set(ends.unwrap_or(0));
        self.metrics
            .certificates
            .set(i64::try_from(served.certificates.len()).unwrap_or(i64::MAX));
        self.certificates.serve(served);
    }

    fn ordered(&self, _: &str, renewal: bool) {
        if renewal {
            self.metrics.renewals.inc();
        }
    }

    fn failing(&self, failing: &BTreeMap<String, String>) {
        self.metrics
            .failing
            .set(i64::try_from(failing.len()).unwrap_or(i64::MAX));
        match failing.first_key_value() {
            None => self.health.report(CHECK, Status::Running),
            Some((name, why)) => {
                self.health.report(CHECK, Status::Running);
                let text = format!("{} names have no new certificate; {name}: {why}", failing.len());
                self.health.report_error(CHECK, text);
            }
        }
    }
}
