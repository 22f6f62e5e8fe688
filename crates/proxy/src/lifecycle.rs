//! Running, draining, stopped: one value per worker that every connection and tunnel looks at.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::conn::ConnState;

/// Where the data plane is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// Finishing: nothing new is accepted, connections are told to end, tunnels go on.
    Draining,
    /// Everything is cut.
    Stopped,
}

/// The phase of one worker with its connections.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    phase: AtomicU8,
    connections: Mutex<HashMap<u64, Arc<ConnState>>>,
    next: AtomicU64,
    /// Connections and tunnels that are open.
    open: AtomicUsize,
    emptied: Notify,
    /// Cancelled when the listeners are to close.
    pub(crate) draining: CancellationToken,
    /// Cancelled when everything is to be cut.
    pub(crate) stopped: CancellationToken,
}

impl Lifecycle {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Whether neither kind of stop was asked for.
    pub(crate) fn running(&self) -> bool {
        self.phase() == Phase::Running
    }

    /// Soft stop: every connection is told to finish.
    pub(crate) fn drain(&self) {
        let _ = self
            .phase
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
        self.draining.cancel();
        self.wake();
    }

    /// Hard stop.
    pub(crate) fn stop(&self) {
        self.phase.store(2, Ordering::Release);
        self.draining.cancel();
        self.stopped.cancel();
        self.wake();
    }

    fn wake(&self) {
        for state in self.connections.lock().values() {
            state.wake();
        }
    }

    /// Counts a connection in until the guard goes.
    pub(crate) fn register(self: &Arc<Self>, state: Arc<ConnState>) -> Registered {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::AcqRel);
        self.connections.lock().insert(id, state);
        Registered {
            lifecycle: self.clone(),
            id: Some(id),
        }
    }

    /// Counts a tunnel, or a connection that speaks no HTTP yet, in until the guard goes.
    pub(crate) fn enter(self: &Arc<Self>) -> Registered {
        self.open.fetch_add(1, Ordering::AcqRel);
        Registered {
            lifecycle: self.clone(),
            id: None,
        }
    }

    /// Waits until nothing is open.
    pub(crate) async fn emptied(&self) {
        loop {
            let notified = self.emptied.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// An open connection or tunnel.
#[derive(Debug)]
pub(crate) struct Registered {
    lifecycle: Arc<Lifecycle>,
    id: Option<u64>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.lifecycle.connections.lock().remove(&id);
        }
        if self.lifecycle.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.lifecycle.emptied.notify_waiters();
        }
    }
}
