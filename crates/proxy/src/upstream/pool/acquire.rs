//! How a request gets a connection: an unused one, a new one, or a place in the line.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Connection, HostPool, To};
use crate::upstream::error::UpstreamError;

impl HostPool {
    /// A connection ready for one request, and whether it was used before.
    pub(super) async fn acquire(self: &Arc<Self>, to: To<'_>) -> Result<(Connection, bool), UpstreamError> {
        if !to.cluster.counts().somebody_waits()
            && let Some(ready) = self.ready().await
        {
            return Ok((ready, true));
        }
        // In a box: dialling needs much room, and nearly every request finds a connection.
        Box::pin(self.acquire_slowly(to)).await
    }

    async fn acquire_slowly(self: &Arc<Self>, to: To<'_>) -> Result<(Connection, bool), UpstreamError> {
        let breakers = &to.cluster.balance.breakers;
        let counts = to.cluster.counts();
        let Some(_pending) = counts.pending(breakers.max_pending_requests) else {
            self.upstreams.metrics.upstream_overflow();
            return Err(UpstreamError::Overflow("max_pending_requests"));
        };
        let mut woken = false;
        loop {
            // Whoever was woken goes before whoever comes along.
            if (woken || !counts.somebody_waits())
                && let Some(got) = self.get(to).await?
            {
                return Ok(got);
            }
            let ticket = counts.queue(to.host, woken);
            if let Some(got) = self.get_if_first(to, woken).await? {
                return Ok(got);
            }
            ticket.called().await;
            woken = true;
        }
    }

    /// A last look after queueing: what was freed before that has woken nobody.
    async fn get_if_first(
        self: &Arc<Self>,
        to: To<'_>,
        woken: bool,
    ) -> Result<Option<(Connection, bool)>, UpstreamError> {
        if woken || to.cluster.counts().is_alone() {
            return self.get(to).await;
        }
        Ok(None)
    }

    /// A connection with room, or a new one if there may be one more.
    async fn get(self: &Arc<Self>, to: To<'_>) -> Result<Option<(Connection, bool)>, UpstreamError> {
        if let Some(ready) = self.ready().await {
            return Ok(Some((ready, true)));
        }
        if self.speaks_http1() {
            return match to
                .cluster
                .counts()
                .connection(to.cluster.balance.breakers.max_connections, to.host)
            {
                Some(open) => self.connect(to, open).await.map(|new| Some((new, false))),
                None => Ok(self.borrow(to).await.map(|borrowed| (borrowed, true))),
            };
        }
        self.get_shared(to).await
    }

    /// The same where the connection may be shared: one dial serves all who wait for it.
    async fn get_shared(self: &Arc<Self>, to: To<'_>) -> Result<Option<(Connection, bool)>, UpstreamError> {
        let before = self.failures.load(Ordering::Acquire);
        let permit = self.dialing.acquire().await;
        if let Some(ready) = self.ready().await {
            return Ok(Some((ready, true)));
        }
        if self.failures.load(Ordering::Acquire) != before {
            // The dial this request waited for has failed: share its outcome instead of queueing dials.
            let shared = self.last_failure.lock().clone();
            return Err(shared.unwrap_or(UpstreamError::ConnectTimeout));
        }
        let open = to
            .cluster
            .counts()
            .connection(to.cluster.balance.breakers.max_connections, to.host);
        match open {
            Some(open) if self.speaks_http1() => {
                drop(permit);
                self.connect(to, open).await.map(|new| Some((new, false)))
            }
            Some(open) => self.connect(to, open).await.map(|new| Some((new, false))),
            None => Ok(self.borrow(to).await.map(|borrowed| (borrowed, true))),
        }
    }

    /// A connection of another worker that has room.
    async fn borrow(self: &Arc<Self>, to: To<'_>) -> Option<Connection> {
        for pool in to.host.pools() {
            if let Some(ready) = pool.ready().await {
                return Some(ready);
            }
        }
        None
    }

    /// A connection that is open and has room.
    async fn ready(&self) -> Option<Connection> {
        while !self.speaks_http1()
            && let Some((lease, rested)) = self.h2.pick()
        {
            if rested {
                // As for HTTP/1.1 below.
                tokio::task::yield_now().await;
                if lease.sender.is_closed() {
                    continue;
                }
            }
            return Some(Connection::Http2(lease));
        }
        self.idle.take().await.map(Connection::Http1)
    }

    fn speaks_http1(&self) -> bool {
        self.learned.load(Ordering::Relaxed) == 1
    }
}
