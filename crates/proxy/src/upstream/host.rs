//! One address of a destination: its health, and how much is going on with it. Process-wide.
//!
//! A [`Host`] belongs to one cluster and is the same object for every worker and over reloads and name
//! lookups for as long as its address stays. Health is written by active checks ([`Host::set_active`])
//! and by outlier detection ([`Host::set_ejected`]), which learns of results through [`Host::report`];
//! balancing reads it. What a healthy host is worth is not decided here.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use http::Response;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::health::Watch;
use super::pool::HostPool;

/// The addresses of a host, tried in order. More than one only for `localhost`; none for a UNIX socket.
pub type Addresses = SmallVec<[IpAddr; 1]>;

const CHECK_FAILED: u8 = 1;
const EJECTED: u8 = 2;

/// How a request to a host ended, as far as the host's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with this status.
    Status(u16),
    /// No connection: refused, unreachable, TLS failed.
    ConnectFailed,
    /// Connecting took too long.
    ConnectTimeout,
    /// The host took too long to answer.
    ResponseTimeout,
    /// The host closed or reset the request before it answered.
    Reset,
    /// The host's answer could not be read.
    Protocol,
}

/// One address of a destination.
pub struct Host {
    /// Names the host within this process; never used again for another one.
    pub id: u64,
    /// What is spoken there, and TLS.
    pub endpoint: Arc<Endpoint>,
    /// Where the socket goes; empty for a UNIX socket.
    pub addresses: Addresses,
    /// Weight of its destination, at least 1.
    pub weight: u32,
    flags: AtomicU8,
    running: AtomicU32,
    /// Shared with the connections, which must not keep the host itself: it goes with its cluster.
    connections: Arc<AtomicU32>,
    watch: OnceLock<Arc<Watch>>,
    /// Who is told when the health changes.
    cluster: Mutex<Weak<Cluster>>,
    /// The pools of the workers; asked only when no more connections may be opened.
    pools: Mutex<Vec<Weak<HostPool>>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Host {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        addresses: Addresses,
        weight: u32,
        (cluster, checked): (Weak<Cluster>, bool),
    ) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            endpoint,
            addresses,
            weight,
            // Where there are checks, it is not healthy before the first of them.
            flags: AtomicU8::new(if checked { CHECK_FAILED } else { 0 }),
            running: AtomicU32::new(0),
            connections: Arc::default(),
            watch: OnceLock::new(),
            cluster: Mutex::new(cluster),
            pools: Mutex::default(),
        })
    }

    /// What active checks say. Takes effect for the next request.
    pub fn set_active(&self, healthy: bool) {
        self.set(CHECK_FAILED, !healthy);
    }

    /// What outlier detection says. Takes effect for the next request.
    pub fn set_ejected(&self, ejected: bool) {
        self.set(EJECTED, ejected);
    }

    fn set(&self, flag: u8, on: bool) {
        let before = if on {
            self.flags.fetch_or(flag, Ordering::AcqRel)
        } else {
            self.flags.fetch_and(!flag, Ordering::AcqRel)
        };
        if (before & flag != 0) == on {
            return;
        }
        let cluster = self.cluster.lock().upgrade();
        if let Some(cluster) = cluster {
            cluster.health_changed();
        }
    }

    /// Whether active checks let it be used.
    pub fn is_active(&self) -> bool {
        self.flags.load(Ordering::Acquire) & CHECK_FAILED == 0
    }

    /// Whether outlier detection has taken it out.
    pub fn is_ejected(&self) -> bool {
        self.flags.load(Ordering::Acquire) & EJECTED != 0
    }

    /// Whether both let it be used.
    pub fn is_usable(&self) -> bool {
        self.flags.load(Ordering::Acquire) == 0
    }

    /// What is remembered about its health, where its cluster watches that.
    pub(super) fn watched(&self) -> Option<&Arc<Watch>> {
        self.watch.get()
    }

    /// The same, begun if need be.
    pub(super) fn watch(&self, begin: impl FnOnce() -> Watch) -> &Arc<Watch> {
        self.watch.get_or_init(|| Arc::new(begin()))
    }

    /// A request has ended. Costs one load where nobody watches.
    pub fn report(&self, outcome: Outcome) {
        if let Some(watch) = self.watch.get() {
            watch.report(self, outcome);
        }
    }

    /// The host has answered. Costs one load where nobody watches.
    pub(crate) fn answered<B>(&self, response: &Response<B>) {
        if let Some(watch) = self.watch.get() {
            watch.report(self, Outcome::Status(status_of(response)));
        }
    }

    /// Requests in flight. Only counted where balancing looks at it.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// Open connections, of all workers.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// `address:port`, or the path of the UNIX socket; for logs and as the name in hash tables.
    pub fn label(&self) -> String {
        use super::endpoint::Target;
        match (&self.endpoint.target, self.addresses.first()) {
            (Target::Tcp(_, port), Some(address)) => std::net::SocketAddr::new(*address, *port).to_string(),
            (Target::Tcp(host, port), None) => format!("{host}:{port}"),
            (Target::Unix(path), _) => path.to_string(),
        }
    }

    pub(super) fn moved_to(&self, cluster: Weak<Cluster>) {
        *self.cluster.lock() = cluster;
    }

    pub(super) fn began(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// A worker has made a pool of connections to this host.
    pub(super) fn has_pool(&self, pool: &Arc<HostPool>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// The pools of all workers.
    pub(super) fn pools(&self) -> Vec<Arc<HostPool>> {
        self.pools.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn connection_counter(&self) -> &Arc<AtomicU32> {
        &self.connections
    }
}

/// The status, or what stands for the gRPC status of an answer without messages.
fn status_of<B>(response: &Response<B>) -> u16 {
    let code = response.headers().get("grpc-status");
    match code.and_then(|code| code.to_str().ok()?.parse().ok()) {
        Some(code) => http_of_grpc(code),
        None => response.status().as_u16(),
    }
}

/// As Envoy translates gRPC codes to HTTP (`Grpc::Utility::grpcToHttpStatus`).
fn http_of_grpc(code: u32) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("id", &self.id)
            .field("at", &self.label())
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}
