//! The audit stream: a record of every decision, to files and to receivers over HTTP (settings `audit`).
//!
//! A worker makes the record and puts it into the [`queue`] of each sink; a thread of the sink takes it from there and
//! writes it ([`file`]) or posts it ([`receiver`]). A worker never waits: what finds no room is counted, logged and
//! marked in the stream as a gap. Records come out in the order of their numbers; a receiver may get one twice.
//!
//! Start at [`Audit`].

mod file;
mod queue;
mod receiver;
mod sink;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use pomerium_api::clock::Clock;
use pomerium_authorize::audit;
use pomerium_authorize::decision_log::AuthorizeRecord;
use pomerium_config::settings::AuditSink;
use pomerium_proxy::AuditStream;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

pub(crate) use self::file::numbered;
use self::sink::Sink;

/// Metrics of all sinks, by sink.
#[derive(Debug, Clone)]
pub struct AuditMetrics {
    written: IntCounterVec,
    dropped: IntCounterVec,
    failures: IntCounterVec,
    waiting: IntGaugeVec,
}

impl AuditMetrics {
    /// Registers them. Errors when a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let made = IntCounterVec::new(Opts::new(name, help), &["sink"])?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let waiting = IntGaugeVec::new(
            Opts::new("pomerium_audit_queue_bytes", "Audit records that wait, bytes."),
            &["sink"],
        )?;
        registry.register(Box::new(waiting.clone()))?;
        Ok(Self {
            written: counter("pomerium_audit_records_total", "Audit records that arrived.")?,
            dropped: counter(
                "pomerium_audit_dropped_total",
                "Audit records that were left out.",
            )?,
            failures: counter(
                "pomerium_audit_failures_total",
                "Attempts to write or post audit records that failed.",
            )?,
            waiting,
        })
    }
}

/// The sinks in force.
pub struct Audit {
    sinks: ArcSwap<Vec<Arc<Sink>>>,
    metrics: AuditMetrics,
    clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Handle,
}

impl Audit {
    /// Without sinks; [`Audit::prepare`] and [`Audit::swap`] start them. Must be called on the control runtime.
    pub fn new(metrics: AuditMetrics, clock: Arc<dyn Clock>) -> Self {
        Self {
            sinks: ArcSwap::default(),
            metrics,
            clock,
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Opens what `settings` ask for; a sink that has not changed goes on. Nothing is in force until it is swapped in.
    ///
    /// Errors when a file cannot be opened: a stream that cannot begin is told at once.
    pub fn prepare(&self, settings: &[AuditSink]) -> anyhow::Result<Vec<Arc<Sink>>> {
        let running = self.sinks.load();
        settings
            .iter()
            .map(
                |wanted| match running.iter().find(|sink| sink.settings == *wanted) {
                    Some(same) => Ok(Arc::clone(same)),
                    None => Sink::start(wanted, &self.metrics, &self.clock, &self.runtime).map(Arc::new),
                },
            )
            .collect()
    }

    /// Puts sinks into force. Those that are left write what they have, and end; that is not waited for.
    pub fn swap(&self, sinks: Vec<Arc<Sink>>) {
        let before = self.sinks.swap(Arc::new(sinks));
        let now = self.sinks.load();
        for left in before
            .iter()
            .filter(|sink| !now.iter().any(|kept| Arc::ptr_eq(kept, sink)))
        {
            left.end();
        }
    }

    /// An impersonation began or ended: into every stream, whatever decisions it has.
    pub fn impersonation(&self, what: &audit::Impersonation<'_>) {
        let mut line = Vec::new();
        audit::impersonation(&mut line, what);
        for sink in self.sinks.load().iter() {
            sink.push(&line, what.now);
        }
    }

    /// Ends all sinks and waits until they have written what they have, as far as that can be done in time. Blocks.
    pub fn close(&self) {
        let sinks = self.sinks.swap(Arc::default());
        sinks.iter().for_each(|sink| sink.end());
        sinks.iter().for_each(|sink| sink.wait());
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("sinks", &self.sinks.load().len())
            .finish_non_exhaustive()
    }
}

/// Room for a record of usual length, made once instead of bit by bit.
const TYPICAL: usize = 2048;

impl AuditStream for Audit {
    fn wants(&self, allowed: bool) -> bool {
        self.sinks.load().iter().any(|sink| sink.wants(allowed))
    }

    fn record(&self, allowed: bool, record: &AuthorizeRecord<'_>) {
        let sinks = self.sinks.load();
        // With and without inputs, each made when the first sink wants it.
        let mut made: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
        for sink in sinks.iter().filter(|sink| sink.wants(allowed)) {
            let line = &mut made[usize::from(sink.settings.inputs)];
            if line.is_empty() {
                line.reserve(TYPICAL);
                audit::decision(line, record, sink.settings.inputs);
            }
            sink.push(line, record.now);
        }
    }

    fn undecided(&self, record: &audit::Undecided<'_>) {
        let sinks = self.sinks.load();
        let mut line = Vec::new();
        for sink in sinks.iter() {
            if line.is_empty() {
                audit::undecided(&mut line, record);
            }
            sink.push(&line, record.now);
        }
    }
}
