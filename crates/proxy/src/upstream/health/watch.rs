//! What is remembered about the health of one host. It lives as long as the host: over reloads too.

use std::sync::Arc;

use parking_lot::Mutex;
use pomerium_config::settings::HealthCheck;

use super::{Below, Finding, Machine, Step};
use crate::upstream::host::{Host, Outcome};
use crate::upstream::outlier::{Monitor, Outliers};

/// The checks of one host and what its requests told.
#[derive(Debug)]
pub struct Watch {
    checks: Mutex<Box<[Machine]>>,
    outliers: Option<(Monitor, Arc<Outliers>)>,
}

impl Watch {
    /// Nothing is known yet.
    pub fn new(checks: usize, outliers: Option<Arc<Outliers>>) -> Self {
        Self {
            checks: Mutex::new(vec![Machine::default(); checks].into()),
            outliers: outliers.map(|outliers| (Monitor::default(), outliers)),
        }
    }

    /// Who judges the results of the host's cluster.
    pub fn outliers(&self) -> Option<&Arc<Outliers>> {
        self.outliers.as_ref().map(|(_, outliers)| outliers)
    }

    /// The counters of outlier detection.
    pub fn monitor(&self) -> Option<&Monitor> {
        self.outliers.as_ref().map(|(monitor, _)| monitor)
    }

    /// A request to the host has ended.
    pub fn report(&self, host: &Host, outcome: Outcome) {
        if let Some((monitor, outliers)) = &self.outliers {
            outliers.note(host, monitor, outcome);
        }
    }

    /// A probe of the check with this number has a result.
    pub fn result(
        &self,
        host: &Host,
        (number, check): (usize, &HealthCheck),
        (finding, traffic): (Finding, bool),
        below: Below<'_>,
    ) -> Option<Step> {
        let mut checks = self.checks.lock();
        let step = checks.get_mut(number)?.result(check, finding, traffic, below);
        // Healthy when all of the checks say so; under the lock, so that the last word counts.
        host.set_active(checks.iter().all(|check| check.healthy() == Some(true)));
        drop(checks);
        if let Some(outliers) = self.outliers()
            && finding == Finding::Good
            && host.is_active()
        {
            outliers.passed(host);
        }
        Some(step)
    }
}
