//! How a request gets a connection: an unused one, a new one, or a place in the line.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Connection, HostPool, To};
use crate::upstream::breakers::{Open, Ticket};
use crate::upstream::error::UpstreamError;

/// What a look has found.
enum Found<'a> {
    /// A connection with room.
    Ready(Connection),
    /// There may be a new one.
    New(Open, Option<Dial<'a>>),
    /// One that many may share is being opened, after so many failures.
    Dialing(u64),
}

/// The one dial at a time while the connection may turn out to be shared.
struct Dial<'a>(&'a HostPool);

impl Drop for Dial<'_> {
    fn drop(&mut self) {
        self.0.dialing.store(false, Ordering::SeqCst);
        self.0.dialed.notify_waiters();
    }
}

impl HostPool {
    /// A connection ready for one request, and whether it was used before.
    pub(super) async fn acquire(self: &Arc<Self>, to: To<'_>) -> Result<(Connection, bool), UpstreamError> {
        if !to.cluster.counts().somebody_waits_for(to.host)
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
        loop {
            let found = match self.look_past_the_line(to).await {
                Some(found) => found,
                None => {
                    self.wait(to, counts.queue(to.host, breakers.max_connections))
                        .await
                }
            };
            match found {
                Found::Ready(ready) => return Ok((ready, true)),
                Found::New(open, _dial) => return self.connect(to, open).await.map(|new| (new, false)),
                Found::Dialing(failures) => {
                    if let Some(ready) = self.share(failures).await? {
                        return Ok((ready, true));
                    }
                }
            }
        }
    }

    /// Looks without a place in the line: only for what nobody in it waits for.
    async fn look_past_the_line(self: &Arc<Self>, to: To<'_>) -> Option<Found<'_>> {
        let counts = to.cluster.counts();
        if counts.somebody_waits_for(to.host) {
            return None;
        }
        self.look(to, !counts.somebody_waits_for_a_new_one()).await
    }

    /// Waits in the line, which it leaves as soon as there is something: dialling holds nobody up.
    async fn wait(self: &Arc<Self>, to: To<'_>, ticket: Ticket<'_>) -> Found<'_> {
        // A last look: what was freed before the place was taken has called nobody.
        if ticket.is_first_of_host()
            && let Some(found) = self.look(to, ticket.is_first_for_a_new_one()).await
        {
            return found;
        }
        loop {
            ticket.called().await;
            if let Some(found) = self.look(to, true).await {
                return found;
            }
        }
    }

    /// A connection with room, or the right to open one if there may be one more and it is this one's `turn`.
    async fn look(self: &Arc<Self>, to: To<'_>, turn: bool) -> Option<Found<'_>> {
        if let Some(ready) = self.ready().await {
            return Some(Found::Ready(ready));
        }
        let dial = if self.speaks_http1() {
            None
        } else {
            let failures = self.failures.load(Ordering::Acquire);
            if self.dialing.swap(true, Ordering::SeqCst) {
                return Some(Found::Dialing(failures));
            }
            Some(Dial(self))
        };
        let limit = to.cluster.balance.breakers.max_connections;
        if let Some(open) = to.cluster.counts().connection(limit, to.host, turn) {
            return Some(Found::New(open, dial));
        }
        drop(dial);
        self.borrow(to).await.map(Found::Ready)
    }

    /// Waits for the dial of another request, and shares what comes of it; `None` if that is nothing.
    async fn share(self: &Arc<Self>, failures: u64) -> Result<Option<Connection>, UpstreamError> {
        let dialed = self.dialed.notified();
        let mut dialed = std::pin::pin!(dialed);
        dialed.as_mut().enable();
        if self.dialing.load(Ordering::SeqCst) {
            dialed.await;
        }
        if let Some(ready) = self.ready().await {
            return Ok(Some(ready));
        }
        if self.failures.load(Ordering::Acquire) == failures {
            return Ok(None);
        }
        // It has failed: many dials, one after the other, would fare no better.
        let shared = self.last_failure.lock().clone();
        Err(shared.unwrap_or(UpstreamError::ConnectTimeout))
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
