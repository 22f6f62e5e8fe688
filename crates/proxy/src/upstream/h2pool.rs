//! Shared HTTP/2 connections to one endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::breakers::Destination;
use super::pool::LOOK_AFTER;
use crate::body::RequestBody;

/// Requests on one connection before another is opened (spec proxy.md 6.1), if the upstream allows as many.
pub(super) const STREAMS: usize = 100;
/// Sweeps that a connection without requests survives.
const IDLE_SWEEPS: u8 = 6;

#[derive(Debug, Default)]
pub(super) struct H2Pool {
    connections: Mutex<Vec<Shared>>,
}

#[derive(Debug)]
struct Shared {
    sender: SendRequest<RequestBody>,
    work: Arc<Work>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS` of the upstream.
    allowed: Arc<AtomicUsize>,
    used: Instant,
    idle_sweeps: u8,
}

/// What a connection does and has done.
#[derive(Debug)]
struct Work {
    /// Where it leads.
    destination: Destination,
    /// Requests under way.
    running: AtomicUsize,
    /// Some request was answered.
    answered: AtomicBool,
}

/// One request's share of a connection.
#[derive(Debug)]
pub(super) struct H2Lease {
    pub(super) sender: SendRequest<RequestBody>,
    work: Arc<Work>,
}

impl H2Lease {
    /// Notes an answer.
    pub(super) fn answered(&self) {
        self.work.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the connection has answered anybody.
    pub(super) fn has_answered(&self) -> bool {
        self.work.answered.load(Ordering::Relaxed)
    }
}

impl H2Pool {
    /// The live connection with the fewest requests, if it has room for one more, and whether it has
    /// rested for so long that it should be looked at first.
    pub(super) fn pick(&self) -> Option<(H2Lease, bool)> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        let least = connections.iter_mut().min_by_key(|connection| connection.load());
        let picked = least.filter(|connection| connection.has_room())?;
        let now = Instant::now();
        let rested = now.duration_since(std::mem::replace(&mut picked.used, now)) > LOOK_AFTER;
        Some((picked.lease(), rested))
    }

    /// Adds a new connection and takes the first share of it.
    pub(super) fn add(
        &self,
        sender: SendRequest<RequestBody>,
        allowed: Arc<AtomicUsize>,
        destination: Destination,
    ) -> H2Lease {
        let work = Work {
            destination,
            running: AtomicUsize::new(0),
            answered: AtomicBool::new(false),
        };
        let shared = Shared {
            sender,
            work: Arc::new(work),
            allowed,
            used: Instant::now(),
            idle_sweeps: 0,
        };
        let lease = shared.lease();
        self.connections.lock().push(shared);
        lease
    }

    /// Forgets connections that are closed or have had no requests for long.
    pub(super) fn sweep(&self) {
        self.connections.lock().retain_mut(|connection| {
            let unused = connection.load() == 0;
            connection.idle_sweeps = if unused { connection.idle_sweeps + 1 } else { 0 };
            !connection.sender.is_closed() && connection.idle_sweeps < IDLE_SWEEPS
        });
    }
}

impl Shared {
    fn load(&self) -> usize {
        self.work.running.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.load() < STREAMS.min(self.allowed.load(Ordering::Relaxed))
    }

    fn lease(&self) -> H2Lease {
        self.work.running.fetch_add(1, Ordering::Relaxed);
        H2Lease {
            sender: self.sender.clone(),
            work: self.work.clone(),
        }
    }
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        self.work.running.fetch_sub(1, Ordering::Relaxed);
        // However the stream has ended: answered, reset or given up.
        self.work.destination.has_room();
    }
}
