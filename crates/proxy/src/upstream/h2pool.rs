//! Shared HTTP/2 connections to one endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;

use crate::body::RequestBody;

/// Requests on one connection before another is opened (spec proxy.md 6.1).
const STREAMS: usize = 100;

#[derive(Debug, Default)]
pub(super) struct H2Pool {
    connections: Mutex<Vec<Shared>>,
}

#[derive(Debug)]
struct Shared {
    sender: SendRequest<RequestBody>,
    running: Arc<AtomicUsize>,
}

/// One request's share of a connection.
#[derive(Debug)]
pub(super) struct H2Lease {
    pub(super) sender: SendRequest<RequestBody>,
    running: Arc<AtomicUsize>,
}

impl H2Pool {
    /// A live connection with room for a request.
    pub(super) fn pick(&self) -> Option<H2Lease> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        connections
            .iter()
            .find(|connection| connection.has_room())
            .map(Shared::lease)
    }

    /// Adds a new connection and takes the first share of it.
    pub(super) fn add(&self, sender: SendRequest<RequestBody>) -> H2Lease {
        let shared = Shared {
            sender,
            running: Arc::default(),
        };
        let lease = shared.lease();
        self.connections.lock().push(shared);
        lease
    }

    /// Forgets closed connections, and all but one of those without requests.
    pub(super) fn sweep(&self) {
        let mut spare = 0;
        self.connections.lock().retain(|connection| {
            let unused = connection.running.load(Ordering::Relaxed) == 0;
            spare += usize::from(unused);
            !connection.sender.is_closed() && (!unused || spare == 1)
        });
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.running.load(Ordering::Relaxed) < STREAMS
    }

    fn lease(&self) -> H2Lease {
        self.running.fetch_add(1, Ordering::Relaxed);
        H2Lease {
            sender: self.sender.clone(),
            running: self.running.clone(),
        }
    }
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}
