//! The connections of one worker to each host: HTTP/1.1 keep-alive (last in, first out) and shared
//! HTTP/2 connections.
//!
//! A connection is opened when none has room and the cluster may have one more; at its limit a request
//! waits in line, and may then use a connection of another worker ([`acquire`]).

mod acquire;
mod idle;
mod send;
mod switch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Request;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::breakers::{Open, Running};
use super::cluster::Cluster;
use super::connect::dial;
use super::endpoint::Protocol;
use super::error::UpstreamError;
use super::h2pool::{H2Lease, H2Pool};
use super::host::Host;
use super::{Upstreams, start};
use crate::body::RequestBody;
pub(super) use idle::H1Connection;
use idle::Idle;

/// A connection unused for so long is looked at before it is used again.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Connect limit, TLS and the HTTP/2 preface included; not configurable (spec proxy.md 1.1).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
    idle: Idle,
    h2: H2Pool,
    /// What is spoken, where ALPN says it what it said last time: 0 unknown, 1 HTTP/1.1, 2 HTTP/2.
    learned: AtomicU8,
    /// One dial at a time while the connection may turn out to be shared.
    dialing: AtomicBool,
    /// Tells those who wait for it that it has ended.
    dialed: Notify,
    failures: AtomicU64,
    last_failure: Mutex<Option<UpstreamError>>,
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
            idle: Idle::new(idle_total),
            h2: H2Pool::default(),
            learned: AtomicU8::new(learned),
            dialing: AtomicBool::new(false),
            dialed: Notify::new(),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
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
            let destination = open.destination();
            let (sender, allowed) = start::http2(stream, open).await?;
            let lease = self.h2.add(sender, allowed, destination.clone());
            // For those of other workers who came while it was being opened.
            destination.has_room();
            Ok(Connection::Http2(lease))
        } else {
            start::http1(stream, open).await.map(Connection::Http1)
        }
    }

    pub(super) fn keep(&self, connection: H1Connection) {
        // Where HTTP/2 is spoken it was for an upgrade that came to nothing.
        if self.learned.load(Ordering::Relaxed) != 2 {
            self.idle.keep(connection);
        }
    }

    fn sweep(&self, now: Instant) {
        self.idle.sweep(now);
        self.h2.sweep();
    }
}
