//! Connections for upgrades, which HTTP/2 does not carry.

use super::{CONNECT_TIMEOUT, Connection, HostPool, To};
use crate::upstream::connect::dial;
use crate::upstream::error::UpstreamError;
use crate::upstream::start;

impl HostPool {
    /// A connection that nobody else gets, for a request that may become a tunnel where HTTP/2 is usual
    /// (spec proxy.md 4.9): an unused one that speaks HTTP/1.1, or a new one. Whether it was used before.
    pub(super) async fn connect_to_switch(&self, to: To<'_>) -> Result<(Connection, bool), UpstreamError> {
        if let Some(idle) = self.idle.take().await {
            return Ok((Connection::Http1(idle), true));
        }
        let limit = to.cluster.balance.breakers.max_connections;
        let Some(open) = to.cluster.counts().connection(limit, to.host, true) else {
            self.upstreams.metrics.upstream_overflow();
            return Err(UpstreamError::Overflow("max_connections"));
        };
        self.upstreams.metrics.upstream_connect();
        let endpoint = to.host.endpoint.in_http1();
        let connecting = async {
            let (stream, _) = dial(&endpoint, &to.host.addresses, None, self.upstreams.bind()).await?;
            start::http1(stream, open).await
        };
        let connected = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(UpstreamError::ConnectTimeout),
        };
        connected
            .map(|connection| (Connection::Http1(connection), false))
            .inspect_err(|_| self.upstreams.metrics.upstream_connect_error())
    }
}
