//! A request's hold on its upstream connection.

use std::sync::Arc;

use super::breakers::Running;
use super::h2pool::H2Lease;
use super::pool::{H1Connection, HostPool};

/// Holds the connection while its response is read. Dropped early, the connection is closed: what is
/// left on it belongs to nobody.
pub struct Lease {
    // Before `_running`, whose end tells those who wait that there is room.
    held: Held,
    _running: Running,
}

enum Held {
    Http1(Arc<HostPool>, H1Connection),
    Http2 { _lease: H2Lease },
    Nothing,
}

impl Lease {
    pub(super) fn http1(pool: Arc<HostPool>, connection: H1Connection, running: Running) -> Self {
        Self {
            held: Held::Http1(pool, connection),
            _running: running,
        }
    }

    pub(super) fn http2(lease: H2Lease, running: Running) -> Self {
        Self {
            held: Held::Http2 { _lease: lease },
            _running: running,
        }
    }

    /// The response was read to its end and the request was sent to its end: the connection may serve
    /// again.
    pub fn finish(mut self) {
        if let Held::Http1(pool, connection) = std::mem::replace(&mut self.held, Held::Nothing) {
            pool.keep(connection);
        }
    }

    /// The connection has become a tunnel; it ends with it. The request is counted until what is
    /// returned is dropped.
    pub fn release(mut self) -> Lease {
        self.held = Held::Nothing;
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Held::Http1(_, connection) = &self.held {
            connection.close();
        }
    }
}
