//! The connections of one worker to each endpoint: HTTP/1.1 keep-alive (last in, first out) and shared
//! HTTP/2 connections.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connect::{Stream, dial};
use super::dns::Resolver;
use super::endpoint::{Endpoint, Protocol};
use super::error::UpstreamError;
use super::h2pool::{H2Lease, H2Pool};
use super::shape;
use crate::body::RequestBody;
use crate::metrics::Metrics;

/// How long an unused HTTP/1.1 connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections kept per endpoint and worker.
const MAX_IDLE: usize = 256;
/// Largest response header block. The number of fields is the library's default, 100: more would cost an
/// allocation per response.
const MAX_HEADER_BYTES: usize = 128 * 1024;
/// Read buffer of an upstream connection.
const MAX_BUFFER: usize = 256 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// All upstream connections of a worker.
#[derive(Debug)]
pub struct Pools {
    pools: Mutex<HashMap<u64, Arc<EndpointPool>, foldhash::fast::RandomState>>,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
}

/// The connections of a worker to one endpoint.
#[derive(Debug)]
pub struct EndpointPool {
    endpoint: Arc<Endpoint>,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
    idle: Mutex<Vec<H1Connection>>,
    h2: H2Pool,
    /// What ALPN gave last time: 0 unknown, 1 HTTP/1.1, 2 HTTP/2.
    learned: AtomicU8,
    /// One dial at a time while the connection may turn out to be shared.
    dialing: Semaphore,
    failures: AtomicU64,
    last_failure: Mutex<Option<UpstreamError>>,
}

#[derive(Debug)]
struct H1Connection {
    sender: http1::SendRequest<RequestBody>,
    task: AbortHandle,
    idle_since: Instant,
}

enum Connection {
    Http1(H1Connection),
    Http2(H2Lease),
}

/// The request comes back with the error when nothing of it was sent.
pub struct Failed {
    /// What went wrong.
    pub error: UpstreamError,
    /// The untouched request.
    pub request: Option<Box<Request<RequestBody>>>,
}

impl Pools {
    /// Empty pools.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            pools: Mutex::default(),
            resolver: Arc::default(),
            metrics,
        }
    }

    /// The pool of `endpoint`.
    pub fn of(&self, endpoint: &Arc<Endpoint>) -> Arc<EndpointPool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&endpoint.id) {
            return pool.clone();
        }
        let pool = Arc::new(EndpointPool::new(
            endpoint.clone(),
            self.resolver.clone(),
            self.metrics.clone(),
        ));
        pools.insert(endpoint.id, pool.clone());
        pool
    }

    /// Closes what was unused for too long, and forgets endpoints that no route has any more; their
    /// running requests go on.
    pub fn sweep(&self, live: &HashSet<u64>) {
        let now = Instant::now();
        let mut pools = self.pools.lock();
        pools.retain(|id, _| live.contains(id));
        for pool in pools.values() {
            pool.idle.lock().retain(|connection| {
                !connection.sender.is_closed() && now.duration_since(connection.idle_since) < IDLE
            });
            pool.h2.sweep();
        }
    }
}

impl EndpointPool {
    fn new(endpoint: Arc<Endpoint>, resolver: Arc<Resolver>, metrics: Arc<Metrics>) -> Self {
        Self {
            endpoint,
            resolver,
            metrics,
            idle: Mutex::default(),
            h2: H2Pool::default(),
            learned: AtomicU8::new(0),
            dialing: Semaphore::new(1),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
        }
    }

    /// Sends a request in origin form with its `Host` header and waits for the response head.
    ///
    /// A kept connection that closed before anything was written is replaced; nothing else is repeated.
    pub async fn send(
        self: &Arc<Self>,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        loop {
            let (connection, reused) = match self.acquire().await {
                Ok(acquired) => acquired,
                Err(error) => {
                    return Err(Failed {
                        error,
                        request: Some(request),
                    });
                }
            };
            let (mut error, error_is_final) = match connection {
                Connection::Http1(mut connection) => {
                    shape::http1(&mut request);
                    match connection.sender.try_send_request(*request).await {
                        Ok(response) => return Ok((response, Lease::http1(self.clone(), connection))),
                        Err(error) => (error, !reused),
                    }
                }
                Connection::Http2(mut lease) => {
                    shape::http2(&mut request, self.endpoint.tls.is_some());
                    match lease.sender.try_send_request(*request).await {
                        Ok(response) => return Ok((response, Lease::http2(lease))),
                        Err(error) => (error, !reused),
                    }
                }
            };
            let returned = error.take_message().map(Box::new);
            match returned {
                Some(untouched) if !error_is_final => request = untouched,
                request => {
                    return Err(Failed {
                        error: UpstreamError::from_hyper(error.error()),
                        request,
                    });
                }
            }
        }
    }

    /// A connection ready for one request, and whether it was used before.
    async fn acquire(self: &Arc<Self>) -> Result<(Connection, bool), UpstreamError> {
        if self.speaks_http1() {
            return self.acquire_http1().await;
        }
        if let Some(lease) = self.h2.pick() {
            return Ok((Connection::Http2(lease), true));
        }
        let before = self.failures.load(Ordering::Acquire);
        let permit = self.dialing.acquire().await;
        if let Some(lease) = self.h2.pick() {
            return Ok((Connection::Http2(lease), true));
        }
        if self.speaks_http1() {
            drop(permit);
            return self.acquire_http1().await;
        }
        if self.failures.load(Ordering::Acquire) != before {
            // The dial this request waited for has failed: share its outcome instead of queueing dials.
            let shared = self.last_failure.lock().clone();
            return Err(shared.unwrap_or(UpstreamError::ConnectTimeout));
        }
        self.connect_new().await
    }

    /// In a box: dialling needs much room, and nearly every request finds a connection.
    async fn connect_new(self: &Arc<Self>) -> Result<(Connection, bool), UpstreamError> {
        Box::pin(self.connect())
            .await
            .map(|connection| (connection, false))
    }

    async fn acquire_http1(self: &Arc<Self>) -> Result<(Connection, bool), UpstreamError> {
        match self.checkout().await {
            Some(kept) => Ok((Connection::Http1(kept), true)),
            None => self.connect_new().await,
        }
    }

    fn speaks_http1(&self) -> bool {
        match self.endpoint.protocol {
            Protocol::Http1 => true,
            Protocol::Http2 => false,
            Protocol::Negotiated => self.learned.load(Ordering::Relaxed) == 1,
        }
    }

    /// The connection used last that is still alive. One whose response has just ended becomes ready
    /// (or closed) within the same turn of the scheduler.
    async fn checkout(&self) -> Option<H1Connection> {
        loop {
            let mut kept = self.idle.lock().pop()?;
            if kept.sender.is_closed() {
                continue;
            }
            if kept.sender.is_ready() || kept.sender.ready().await.is_ok() {
                return Some(kept);
            }
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<Connection, UpstreamError> {
        self.metrics.upstream_connect();
        match self.connect_inner().await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                self.metrics.upstream_connect_error();
                *self.last_failure.lock() = Some(error.clone());
                self.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }

    async fn connect_inner(self: &Arc<Self>) -> Result<Connection, UpstreamError> {
        let (stream, h2) = dial(&self.endpoint, &self.resolver).await?;
        self.learned.store(if h2 { 2 } else { 1 }, Ordering::Relaxed);
        if h2 {
            self.start_http2(stream).await
        } else {
            start_http1(stream).await
        }
    }

    async fn start_http2(&self, stream: Stream) -> Result<Connection, UpstreamError> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UpstreamError::from_hyper(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream HTTP/2 connection ended");
            }
        });
        Ok(Connection::Http2(self.h2.add(sender)))
    }

    fn keep(&self, mut connection: H1Connection) {
        if connection.sender.is_closed() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

async fn start_http1(stream: Stream) -> Result<Connection, UpstreamError> {
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| UpstreamError::from_hyper(&error))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream HTTP/1.1 connection ended");
        }
    });
    Ok(Connection::Http1(H1Connection {
        sender,
        task: task.abort_handle(),
        idle_since: Instant::now(),
    }))
}

/// Holds the connection while its response is read. Dropped early, the connection is closed: what is
/// left on it belongs to nobody.
pub struct Lease(Held);

enum Held {
    Http1(Arc<EndpointPool>, H1Connection),
    Http2 { _lease: H2Lease },
    Nothing,
}

impl Lease {
    fn http1(pool: Arc<EndpointPool>, connection: H1Connection) -> Self {
        Self(Held::Http1(pool, connection))
    }

    fn http2(lease: H2Lease) -> Self {
        Self(Held::Http2 { _lease: lease })
    }

    /// The response was read to its end and the request was sent to its end: the connection may serve
    /// again.
    pub fn finish(mut self) {
        if let Held::Http1(pool, connection) = std::mem::replace(&mut self.0, Held::Nothing) {
            pool.keep(connection);
        }
    }

    /// The connection has become a tunnel; it ends with it.
    pub fn release(mut self) {
        self.0 = Held::Nothing;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Held::Http1(_, connection) = &self.0 {
            connection.task.abort();
        }
    }
}
