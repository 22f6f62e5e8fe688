//! What the streams of one connection share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::super::Conn;
use super::code;

/// Requests that a client may give up before their answer begins, beyond half of all its requests.
const CANCELLED: usize = 200;

/// One connection, as its requests see it.
pub(super) struct Link {
    pub(super) quic: quinn::Connection,
    pub(super) conn: Conn,
    /// The client's address in the handshake, which has shown that it receives there.
    pub(super) home: IpAddr,
    /// How long a head may take to arrive.
    pub(super) patience: Duration,
    running: AtomicUsize,
    /// Nothing new is taken.
    pub(super) finishing: AtomicBool,
    /// The client has moved to another address.
    pub(super) moved: AtomicBool,
    /// Told when the last request has ended while finishing.
    pub(super) quiet: Notify,
    taken: AtomicUsize,
    cancelled: AtomicUsize,
}

impl Link {
    pub(super) fn new(quic: quinn::Connection, conn: Conn, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            home: conn.info.peer.ip(),
            quic,
            conn,
            patience,
            running: AtomicUsize::new(0),
            finishing: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            quiet: Notify::new(),
            taken: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
        })
    }

    /// Counts a request in until the guard goes.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }

    /// The client has given up a request before its answer began. Doing little else is an attack: it costs the
    /// client a few bytes and us a request to the upstream each time.
    pub(super) fn cancelled(&self) {
        let cancelled = self.cancelled.fetch_add(1, Ordering::Relaxed) + 1;
        if cancelled > CANCELLED && 2 * cancelled > self.taken.load(Ordering::Relaxed) {
            tracing::debug!(peer = %self.conn.info.peer, "a client gives up nearly all of its requests");
            self.quic.close(code::EXCESSIVE_LOAD, b"");
        }
    }

    /// The connection is to finish because its client is at another address now.
    pub(super) fn leave(&self) {
        if !self.moved.swap(true, Ordering::Relaxed) {
            tracing::debug!(peer = %self.conn.info.peer, "a client has moved: its connection finishes");
            self.conn.state.wake();
        }
    }
}

/// One running request.
pub(super) struct Running(pub(super) Arc<Link>);

impl Drop for Running {
    fn drop(&mut self) {
        let last = self.0.running.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.0.finishing.load(Ordering::Relaxed) {
            self.0.quiet.notify_one();
        }
    }
}
