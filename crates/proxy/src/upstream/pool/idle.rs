//! HTTP/1.1 connections that are not in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::client::conn::http1;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::LOOK_AFTER;
use crate::body::RequestBody;
use crate::upstream::doubt::Budget;

/// How long an unused connection is kept.
const LONGEST: Duration = Duration::from_secs(90);
/// Unused connections kept per host and worker.
const MOST: usize = 256;
/// Unused connections kept per worker, over all hosts.
const MOST_IN_ALL: usize = 4096;

/// A connection for one request at a time.
pub(in crate::upstream) struct H1Connection {
    pub(super) sender: http1::SendRequest<RequestBody>,
    task: AbortHandle,
    pub(super) budget: Arc<Budget>,
    idle_since: Instant,
}

impl H1Connection {
    pub(in crate::upstream) fn new(
        sender: http1::SendRequest<RequestBody>,
        task: AbortHandle,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            sender,
            task,
            budget,
            idle_since: Instant::now(),
        }
    }

    pub(in crate::upstream) fn close(&self) {
        self.task.abort();
    }
}

/// Those of one worker to one host, last in, first out.
pub(super) struct Idle {
    connections: Mutex<Vec<H1Connection>>,
    /// Over all hosts of the worker.
    in_all: Arc<AtomicUsize>,
}

impl Idle {
    /// None yet; `in_all` counts those of all hosts.
    pub(super) fn new(in_all: Arc<AtomicUsize>) -> Self {
        Self {
            connections: Mutex::default(),
            in_all,
        }
    }

    /// The connection used last that is still alive. One whose response has just ended becomes ready
    /// (or closed) within the same turn of the scheduler.
    pub(super) async fn take(&self) -> Option<H1Connection> {
        loop {
            let mut kept = self.connections.lock().pop()?;
            self.in_all.fetch_sub(1, Ordering::Relaxed);
            if kept.idle_since.elapsed() > LOOK_AFTER {
                // One turn of the event loop: afterwards the connection knows what the kernel knows,
                // above all that the upstream has closed it meanwhile.
                tokio::task::yield_now().await;
            }
            if kept.sender.is_closed() {
                continue;
            }
            if kept.sender.is_ready() || kept.sender.ready().await.is_ok() {
                return Some(kept);
            }
        }
    }

    /// Keeps a connection for the next request, if it is alive and there is room.
    pub(super) fn keep(&self, mut connection: H1Connection) {
        if connection.sender.is_closed() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut connections = self.connections.lock();
        if connections.len() < MOST && self.in_all.load(Ordering::Relaxed) < MOST_IN_ALL {
            self.in_all.fetch_add(1, Ordering::Relaxed);
            connections.push(connection);
        }
    }

    /// Closes those that were not used for too long.
    pub(super) fn sweep(&self, now: Instant) {
        let mut connections = self.connections.lock();
        let before = connections.len();
        connections.retain(|connection| {
            !connection.sender.is_closed() && now.duration_since(connection.idle_since) < LONGEST
        });
        self.in_all
            .fetch_sub(before - connections.len(), Ordering::Relaxed);
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let kept = self.connections.get_mut().len();
        self.in_all.fetch_sub(kept, Ordering::Relaxed);
    }
}
