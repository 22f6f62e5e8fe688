//! One sink: a queue, and a thread that empties it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::clock::Clock;
use pomerium_authorize::audit::Mark;
use pomerium_config::settings::{AuditSink, AuditTarget};
use prometheus::{IntCounter, IntGauge};

use super::AuditMetrics;
use super::file::FileWriter;
use super::queue::{Pushed, Queue};
use super::receiver::Receiver;

/// Between two log lines that say the same, seconds.
const QUIET: i64 = 60;

/// A running sink.
pub struct Sink {
    pub(super) settings: AuditSink,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and the workers share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) queue: Queue,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: SinkMetrics,
    complained: AtomicI64,
}

/// Metrics of one sink.
pub(super) struct SinkMetrics {
    pub(super) written: IntCounter,
    pub(super) dropped: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) waiting: IntGauge,
}

impl Sink {
    /// Opens the file, starts the thread, marks the beginning of the stream.
    pub(super) fn start(
        settings: &AuditSink,
        metrics: &AuditMetrics,
        clock: &Arc<dyn Clock>,
        runtime: &tokio::runtime::Handle,
    ) -> anyhow::Result<Self> {
        let name = name(settings);
        let label = [name.as_str()];
        let shared = Arc::new(Shared {
            queue: Queue::new(uuid::Uuid::now_v7().to_string(), settings.queue_bytes),
            clock: Arc::clone(clock),
            metrics: SinkMetrics {
                written: metrics.written.with_label_values(&label),
                dropped: metrics.dropped.with_label_values(&label),
                failures: metrics.failures.with_label_values(&label),
                waiting: metrics.waiting.with_label_values(&label),
            },
            complained: AtomicI64::new(i64::MIN),
            name,
        });
        let writer = Arc::clone(&shared);
        let run: Box<dyn FnOnce() + Send> = match &settings.target {
            AuditTarget::File(file) => {
                let file = FileWriter::open(file.clone())
                    .with_context(|| format!("audit: {} cannot be written", file.path.display()))?;
                Box::new(move || file.run(&writer))
            }
            AuditTarget::Http(http) => {
                let receiver = Receiver::new(http.clone(), runtime.clone()).context("audit: tls_ca_file")?;
                Box::new(move || receiver.run(&writer))
            }
        };
        let start = Mark::Start {
            program: crate::VERSION,
            decisions: if settings.allowed { "all" } else { "denied" },
        };
        shared.queue.mark(&start, clock.now());
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(run)
            .context("audit: the thread that writes cannot be started")?;
        Ok(Self {
            settings: settings.clone(),
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn wants(&self, allowed: bool) -> bool {
        self.settings.allowed || !allowed
    }

    pub(super) fn push(&self, record: &[u8], now: Timestamp) {
        let shared = &self.shared;
        match shared.queue.push(record, now) {
            Pushed::Waits => return,
            Pushed::GapBegins => {
                tracing::error!(
                    sink = shared.name,
                    "audit: records are left out, because they are not taken as fast as they come; the stream will \
                     name the gap"
                );
            }
            Pushed::Dropped => {}
        }
        shared.metrics.dropped.inc();
    }

    /// Marks the end; what waits is still written.
    pub(super) fn end(&self) {
        let shared = &self.shared;
        let stop = Mark::Stop {
            dropped: shared.queue.dropped(),
        };
        shared.queue.mark(&stop, shared.clock.now());
        shared.queue.close();
    }

    /// Waits until the thread has ended. Blocks.
    pub(super) fn wait(&self) {
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(sink = self.shared.name, "audit: the writer broke down");
        }
    }
}

impl Drop for Sink {
    /// A sink that never came into force, or that nobody ended.
    fn drop(&mut self) {
        if self.shared.queue.closed_for().is_none() {
            self.end();
        }
    }
}

impl Shared {
    /// A failure: counted, and told once in a while.
    pub(super) fn failed(&self, problem: &str, help: &str) {
        self.metrics.failures.inc();
        let now = self.clock.now().as_second();
        let before = self.complained.load(Ordering::Relaxed);
        if before == i64::MIN || now.saturating_sub(before) >= QUIET {
            self.complained.store(now, Ordering::Relaxed);
            let waiting = self.queue.bytes();
            tracing::error!(
                sink = self.name,
                problem,
                help,
                waiting,
                "audit: records cannot be passed on"
            );
        }
    }

    /// Records have arrived.
    pub(super) fn arrived(&self, lines: &[Vec<u8>]) {
        self.queue.arrived(lines.iter().map(Vec::len).sum());
        self.metrics.written.inc_by(lines.len() as u64);
        self.waiting();
        if self.complained.swap(i64::MIN, Ordering::Relaxed) != i64::MIN {
            tracing::info!(sink = self.name, "audit: records are passed on again");
        }
    }

    pub(super) fn waiting(&self) {
        let bytes = i64::try_from(self.queue.bytes()).unwrap_or(i64::MAX);
        self.metrics.waiting.set(bytes);
    }

    /// At the end there was no more time.
    pub(super) fn abandoned(&self, taken: &[Vec<u8>]) {
        let left = self.queue.abandon() + taken.len() as u64;
        self.metrics.dropped.inc_by(left);
        tracing::error!(
            sink = self.name,
            records = left,
            "audit: records are lost: they could not be passed on before the program ended"
        );
    }
}

/// The name in logs and metrics. No part of it is a secret.
fn name(settings: &AuditSink) -> String {
    match &settings.target {
        AuditTarget::File(file) => format!("file:{}", file.path.display()),
        AuditTarget::Http(http) => format!("http:{}", http.url.authority().map_or("", |at| at.as_str())),
    }
}
