//! What is shown to the authority while it looks, and what has to go away afterwards, whatever becomes of the order.

use std::sync::Arc;

use pomerium_api::clock::Clock;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::challenges::Offered;
use super::dns::{self, TxtRecord};
use super::options::Options;

/// Something that outlives this process unless it is taken back.
#[derive(Debug, Clone)]
pub(super) enum Trace {
    /// A record in a zone.
    Record(TxtRecord),
    /// A proof that was told to the other processes of the storage, by its name.
    Shared(String),
}

/// What one attempt shows. What is left of it when it is dropped, because an order was cut off, is taken back by a
/// task of its own.
pub(super) struct Shown {
    options: Arc<Options>,
    clock: Arc<dyn Clock>,
    /// Those tasks.
    removals: TaskTracker,
    /// Go away when dropped.
    here: Vec<Offered>,
    traces: Vec<Trace>,
}

impl Shown {
    pub(super) fn new(options: &Arc<Options>, clock: &Arc<dyn Clock>, removals: &TaskTracker) -> Self {
        Self {
            options: Arc::clone(options),
            clock: Arc::clone(clock),
            removals: removals.clone(),
            here: Vec::new(),
            traces: Vec::new(),
        }
    }

    /// Holds what our own listeners answer.
    pub(super) fn hold(&mut self, offered: Offered) {
        self.here.push(offered);
    }

    /// Notes what has to be taken back. To be called first: what was published must go away even when it is not known
    /// whether it was.
    pub(super) fn note(&mut self, trace: Trace) {
        self.traces.push(trace);
    }

    /// Takes everything back.
    pub(super) async fn take_back(mut self) {
        // Each is forgotten when it is gone: this, too, may be cut off.
        while let Some(trace) = self.traces.last() {
            remove(&self.options, &self.clock, trace).await;
            self.traces.pop();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let traces = std::mem::take(&mut self.traces);
        if traces.is_empty() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (options, clock) = (Arc::clone(&self.options), Arc::clone(&self.clock));
        let removal = async move {
            for trace in traces {
                remove(&options, &clock, &trace).await;
            }
        };
        self.removals.spawn_on(removal, &runtime);
    }
}

async fn remove(options: &Options, clock: &Arc<dyn Clock>, trace: &Trace) {
    match (trace, &options.dns) {
        (Trace::Record(record), Some(dns)) => dns::clean(dns, record, clock).await,
        (Trace::Record(_), None) => {}
        (Trace::Shared(id), _) => {
            if let Err(error) = options.storage.withdraw(id).await {
                tracing::warn!(%error, "autocert: a proof could not be taken back; it ends by itself");
            }
        }
    }
}
