//! The connections of one worker to each host: HTTP/1.1 keep-alive (last in, first out) and shared
//! HTTP/2 connections.
//!
//! A connection is opened when none has room and the cluster may have one more; at its limit a request
//! waits in line, and may then use a connection of another worker. What was written to a connection is
//! sent again only when the upstream cannot have looked at it: an idle connection that closed before
//! the first byte, a stream that was refused, a request after the last one of a GOAWAY.

mod switch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::breakers::{Open, Running};
use super::cluster::Cluster;
use super::connect::dial;
use super::doubt::{self, Budget};
use super::endpoint::Protocol;
use super::error::UpstreamError;
use super::h2pool::{H2Lease, H2Pool};
use super::host::Host;
use super::lease::Lease;
use super::{Upstreams, shape, start};
use crate::body::RequestBody;

/// How long an unused HTTP/1.1 connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections kept per host and worker.
const MAX_IDLE: usize = 256;
/// Unused HTTP/1.1 connections kept per worker, over all hosts.
const MAX_IDLE_TOTAL: usize = 4096;
/// A connection unused for so long is looked at before it is used again.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Connect limit, TLS and the HTTP/2 preface included; not configurable (spec proxy.md 1.1).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is sent again that its upstream refused to look at, on connections that answer nobody.
const RESENDS: u8 = 2;
/// The same in all: on connections that end after a few answers each, other requests may come first for a while.
const MOST_RESENDS: u8 = 20;

type PoolsByHost = HashMap<u64, (Weak<Host>, Arc<HostPool>), foldhash::fast::RandomState>;

/// All upstream connections of a worker.
pub struct Pools {
    pools: Mutex<PoolsByHost>,
    idle: Arc<AtomicUsize>,
    upstreams: Arc<Upstreams>,
}

/// The connections of a worker to one host.
pub struct HostPool {
    upstreams: Arc<Upstreams>,
    idle: Mutex<Vec<H1Connection>>,
    idle_total: Arc<AtomicUsize>,
    h2: H2Pool,
    /// What is spoken, where ALPN says it what it said last time: 0 unknown, 1 HTTP/1.1, 2 HTTP/2.
    learned: AtomicU8,
    /// One dial at a time while the connection may turn out to be shared.
    dialing: Semaphore,
    failures: AtomicU64,
    last_failure: Mutex<Option<UpstreamError>>,
}

/// A connection for one request at a time.
pub(super) struct H1Connection {
    sender: http1::SendRequest<RequestBody>,
    task: AbortHandle,
    budget: Arc<Budget>,
    idle_since: Instant,
}

impl H1Connection {
    pub(super) fn new(
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

    pub(super) fn close(&self) {
        self.task.abort();
    }
}

pub(super) enum Connection {
    Http1(H1Connection),
    Http2(H2Lease),
}

/// The request comes back with the error when the upstream has certainly not looked at it.
pub struct Failed {
    /// What went wrong.
    pub error: UpstreamError,
    /// The untouched request.
    pub request: Option<Box<Request<RequestBody>>>,
    /// Its place among the running ones.
    pub running: Running,
}

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// Whose limits count.
    pub cluster: &'a Arc<Cluster>,
    /// One of its hosts: the one of this pool.
    pub host: &'a Arc<Host>,
    /// The request asks to switch to another protocol, which HTTP/2 has no word for.
    pub switches: bool,
}

impl Pools {
    /// Empty pools.
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        Self {
            pools: Mutex::default(),
            idle: Arc::default(),
            upstreams,
        }
    }

    /// What all workers share.
    pub fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    /// The connections to `host`.
    pub fn of(&self, host: &Arc<Host>) -> Arc<HostPool> {
        let mut pools = self.pools.lock();
        if let Some((_, pool)) = pools.get(&host.id) {
            return pool.clone();
        }
        let pool = Arc::new(HostPool::new(
            host.endpoint.protocol,
            self.upstreams.clone(),
            self.idle.clone(),
        ));
        host.has_pool(&pool);
        pools.insert(host.id, (Arc::downgrade(host), pool.clone()));
        pool
    }

    /// Closes what was unused for too long, and forgets hosts that no cluster has any more; their
    /// running requests go on.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut pools = self.pools.lock();
        pools.retain(|_, (host, _)| host.strong_count() > 0);
        for (_, pool) in pools.values() {
            pool.sweep(now);
        }
    }
}

impl HostPool {
    fn new(protocol: Protocol, upstreams: Arc<Upstreams>, idle_total: Arc<AtomicUsize>) -> Self {
        let learned = match protocol {
            Protocol::Negotiated => 0,
            Protocol::Http1 => 1,
            Protocol::Http2 => 2,
        };
        Self {
            upstreams,
            idle: Mutex::default(),
            idle_total,
            h2: H2Pool::default(),
            learned: AtomicU8::new(learned),
            dialing: Semaphore::new(1),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
        }
    }

    /// Sends a request in origin form with its `Host` header to `to.host` and waits for the response head.
    /// `running` counts it until the response has ended.
    pub async fn send(
        self: &Arc<Self>,
        to: To<'_>,
        mut running: Running,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        let (mut resends, mut fruitless) = (0, 0);
        loop {
            let acquired = if to.switches && to.host.endpoint.protocol != Protocol::Http1 {
                Box::pin(self.connect_to_switch(to)).await
            } else {
                self.acquire(to).await
            };
            let (connection, reused) = match acquired {
                Ok(acquired) => acquired,
                Err(error) => {
                    return Err(Failed {
                        error,
                        request: Some(request),
                        running,
                    });
                }
            };
            let mut again = None;
            let mut unasked = false;
            let (mut error, last) = match connection {
                Connection::Http1(mut connection) => {
                    shape::http1(&mut request);
                    connection.budget.begin();
                    match connection.sender.try_send_request(*request).await {
                        Ok(response) => {
                            running.connected(to.host);
                            return self.answered(connection, running, response);
                        }
                        Err(error) => {
                            unasked = !reused && connection.budget.has_spoken();
                            (error, !reused)
                        }
                    }
                }
                Connection::Http2(mut lease) => {
                    shape::http2(&mut request, to.host.endpoint.tls.is_some());
                    again = copy(&request);
                    match lease.sender.try_send_request(*request).await {
                        Ok(response) => {
                            running.connected(to.host);
                            lease.answered();
                            return Ok((response, Lease::http2(lease, running)));
                        }
                        // Others may have used up what this one has dialled.
                        Err(error) => {
                            resends += 1;
                            // Those whose answers came with the goodbye are to note them first.
                            tokio::task::yield_now().await;
                            fruitless += u8::from(!lease.has_answered());
                            (error, fruitless > RESENDS || resends > MOST_RESENDS)
                        }
                    }
                }
            };
            // The same host did not look at it: no second attempt, which `max_retries` would count.
            let mut untouched = error.take_message().map(Box::new);
            if untouched.is_none() && UpstreamError::is_unprocessed(error.error()) {
                untouched = again;
            }
            let repeat = untouched.is_some() && !last;
            match untouched {
                Some(untouched) if repeat => request = untouched,
                request => {
                    // Not even sent: the connection ended before that, and the library does not say why.
                    let unasked = unasked && request.is_some();
                    return Err(Failed {
                        error: if unasked {
                            UpstreamError::Protocol(doubt::Doubt::Unasked.to_string())
                        } else {
                            UpstreamError::from_hyper(error.error())
                        },
                        request,
                        running,
                    });
                }
            }
        }
    }

    /// An answer whose framing is in doubt is none, and its connection ends.
    fn answered(
        self: &Arc<Self>,
        connection: H1Connection,
        running: Running,
        response: Response<Incoming>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        connection.budget.end();
        if let Err(doubt) = doubt::check_framing(response.version(), response.headers()) {
            connection.close();
            return Err(Failed {
                error: UpstreamError::Protocol(doubt.to_string()),
                request: None,
                running,
            });
        }
        Ok((response, Lease::http1(self.clone(), connection, running)))
    }

    /// A connection ready for one request, and whether it was used before.
    async fn acquire(self: &Arc<Self>, to: To<'_>) -> Result<(Connection, bool), UpstreamError> {
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
        self.checkout().await.map(Connection::Http1)
    }

    fn speaks_http1(&self) -> bool {
        self.learned.load(Ordering::Relaxed) == 1
    }

    /// The connection used last that is still alive. One whose response has just ended becomes ready
    /// (or closed) within the same turn of the scheduler.
    async fn checkout(&self) -> Option<H1Connection> {
        loop {
            let mut kept = self.idle.lock().pop()?;
            self.idle_total.fetch_sub(1, Ordering::Relaxed);
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

    async fn connect(self: &Arc<Self>, to: To<'_>, open: Open) -> Result<Connection, UpstreamError> {
        self.upstreams.metrics.upstream_connect();
        let connecting = self.connect_inner(to.host, open);
        let connected = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(UpstreamError::ConnectTimeout),
        };
        connected.inspect_err(|error| {
            self.upstreams.metrics.upstream_connect_error();
            *self.last_failure.lock() = Some(error.clone());
            self.failures.fetch_add(1, Ordering::Release);
        })
    }

    async fn connect_inner(&self, host: &Arc<Host>, open: Open) -> Result<Connection, UpstreamError> {
        let (stream, h2) = dial(&host.endpoint, &host.addresses, None, self.upstreams.bind()).await?;
        self.learned.store(if h2 { 2 } else { 1 }, Ordering::Relaxed);
        if h2 {
            let (sender, allowed) = start::http2(stream, open).await?;
            Ok(Connection::Http2(self.h2.add(sender, allowed)))
        } else {
            start::http1(stream, open).await.map(Connection::Http1)
        }
    }

    pub(super) fn keep(&self, mut connection: H1Connection) {
        // Where HTTP/2 is spoken it was for an upgrade that came to nothing.
        let http2 = self.learned.load(Ordering::Relaxed) == 2;
        if connection.sender.is_closed() || http2 {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && self.idle_total.load(Ordering::Relaxed) < MAX_IDLE_TOTAL {
            self.idle_total.fetch_add(1, Ordering::Relaxed);
            idle.push(connection);
        }
    }

    fn sweep(&self, now: Instant) {
        let mut idle = self.idle.lock();
        let before = idle.len();
        idle.retain(|connection| {
            !connection.sender.is_closed() && now.duration_since(connection.idle_since) < IDLE
        });
        self.idle_total.fetch_sub(before - idle.len(), Ordering::Relaxed);
        drop(idle);
        self.h2.sweep();
    }
}

impl Drop for HostPool {
    fn drop(&mut self) {
        let kept = self.idle.get_mut().len();
        self.idle_total.fetch_sub(kept, Ordering::Relaxed);
    }
}

/// The request once more, if it has no body: for streams that are refused after they were sent.
fn copy(request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
    let body = request.body().again()?;
    let mut copy = Box::new(Request::new(body));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
