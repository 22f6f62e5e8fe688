//! What happened at one host, in a few counters that requests of every worker bump.
//!
//! A request costs two or three relaxed additions here, and only for clusters with `outlier_detection`.
//! Crossing a threshold is told to exactly one request, which then takes the detector's lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pomerium_config::settings::OutlierDetection;

/// How a request at a host ended, as outlier detection sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// An answer with this status; a gRPC status is turned into its HTTP counterpart before.
    Status(u16),
    /// No connection, a connection that broke, or a reset before the answer.
    Unreachable,
    /// No answer in time.
    TimedOut,
}

/// What a host is ejected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// `consecutive_5xx`.
    Consecutive5xx,
    /// `consecutive_gateway_failure`.
    GatewayFailure,
    /// `consecutive_local_origin_failure`.
    LocalOrigin,
    /// `success_rate_*` of answers.
    SuccessRate,
    /// `success_rate_*` of connections.
    LocalOriginSuccessRate,
    /// `failure_percentage_*` of answers.
    FailurePercentage,
    /// `failure_percentage_*` of connections.
    LocalOriginFailurePercentage,
}

impl Cause {
    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::GatewayFailure => "consecutive_gateway_failure",
            Self::LocalOrigin => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::LocalOriginSuccessRate => "success_rate_local_origin",
            Self::FailurePercentage => "failure_percentage",
            Self::LocalOriginFailurePercentage => "failure_percentage_local_origin",
        }
    }
}

/// Requests of one interval and how many of them were good.
#[derive(Debug, Default)]
struct Rate {
    total: AtomicU64,
    good: AtomicU64,
}

/// A reading of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Requests.
    pub total: u64,
    /// Of them good ones.
    pub good: u64,
}

impl Rate {
    fn count(&self, good: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if good {
            self.good.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Sample {
        // A request counted between the two reads must not make more good ones than there were.
        let good = self.good.swap(0, Ordering::Relaxed);
        let total = self.total.swap(0, Ordering::Relaxed).max(good);
        Sample { total, good }
    }
}

/// The counters of one host.
#[derive(Debug, Default)]
pub struct Monitor {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_errors: AtomicU32,
    answers: Rate,
    local: Rate,
}

/// At most the 5xx rule and the gateway rule can fire for one request.
pub type Causes = smallvec::SmallVec<[Cause; 2]>;

impl Monitor {
    /// Notes how a request ended. The causes are those whose count was reached with this request.
    pub fn note(&self, rules: &OutlierDetection, seen: Seen) -> Causes {
        let mut causes = Causes::new();
        if !rules.split_external_local_origin_errors {
            self.answer(rules, status_of(seen), &mut causes);
            return causes;
        }
        if let Seen::Status(status) = seen {
            self.local.count(true);
            self.local_errors.store(0, Ordering::Relaxed);
            self.answer(rules, status, &mut causes);
        } else {
            self.local.count(false);
            if reached(&self.local_errors, rules.consecutive_local_origin_failure) {
                causes.push(Cause::LocalOrigin);
            }
        }
        causes
    }

    fn answer(&self, rules: &OutlierDetection, status: u16, causes: &mut Causes) {
        let good = !(500..600).contains(&status);
        self.answers.count(good);
        if good {
            // Nearly always zero already: a read shared by all workers is cheaper than a write.
            clear(&self.errors);
            clear(&self.gateway_errors);
            return;
        }
        if (502..=504).contains(&status) {
            if reached(&self.gateway_errors, rules.consecutive_gateway_failure) {
                causes.push(Cause::GatewayFailure);
            }
        } else {
            clear(&self.gateway_errors);
        }
        if reached(&self.errors, rules.consecutive_5xx) {
            causes.push(Cause::Consecutive5xx);
        }
    }

    /// The count of a consecutive rule starts over.
    pub fn restart(&self, cause: Cause) {
        match cause {
            Cause::Consecutive5xx => self.errors.store(0, Ordering::Relaxed),
            Cause::GatewayFailure => self.gateway_errors.store(0, Ordering::Relaxed),
            Cause::LocalOrigin => self.local_errors.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    /// All consecutive counts start over.
    pub fn restart_all(&self) {
        for counter in [&self.errors, &self.gateway_errors, &self.local_errors] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// What the interval that ends now counted: answers and connections. The next one starts at zero.
    pub fn take(&self) -> (Sample, Sample) {
        (self.answers.take(), self.local.take())
    }
}

/// The status that stands for a request without an answer where errors are not split.
fn status_of(seen: Seen) -> u16 {
    match seen {
        Seen::Status(status) => status,
        Seen::Unreachable => 503,
        Seen::TimedOut => 504,
    }
}

/// Counts one more; true for the one request that reaches `limit`.
fn reached(counter: &AtomicU32, limit: u32) -> bool {
    counter.fetch_add(1, Ordering::Relaxed).saturating_add(1) == limit
}

fn clear(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}
