//! The upstream of one route: its destinations, the hosts they stand for right now, its limits.
//!
//! Process-wide: made with a snapshot, and the same object in the next one while its settings stay
//! ([`Clusters`]). The hosts are found when the first request needs them ([`Cluster::resolve`]); names
//! that change and health that changes put a new [`View`] in place. Which host a request gets is
//! `balance`'s matter, connections are the pool's.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pomerium_config::settings::{
    Balance, Destination, DnsFamily, LoadBalancing, RouteSettings, UpstreamScheme,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Upstreams;
use super::balance::View;
use super::breakers::{Counts, Pending, Running};
use super::endpoint::{Endpoint, Endpoints, Protocol, Target, is_tls};
use super::error::UpstreamError;
use super::host::{Addresses, Host};
use super::names::Name;
use super::tls::{Roots, TlsError};

/// A destination with its weight.
type Destined = (Arc<Endpoint>, u32);

/// The upstream of one route.
pub struct Cluster {
    /// `upstream-cluster` of the access log.
    pub name: Box<str>,
    /// How a host is chosen, its health, and the limits that are counted in `counts`.
    pub balance: Arc<Balance>,
    destinations: Box<[Destined]>,
    /// Of the addresses that names stand for, where the settings of all upstreams do not say it.
    family: Option<DnsFamily>,
    /// Made when the first request comes: of many clusters few are in use.
    counts: OnceLock<Arc<Counts>>,
    view: ArcSwapOption<View>,
    /// The same.
    building: Mutex<Option<Box<Building>>>,
    /// Set by requests, taken back by the refreshing of names.
    used: AtomicBool,
    traffic: AtomicBool,
    adopted: AtomicBool,
    version: AtomicU64,
    watched: OnceLock<Box<Watched>>,
    this: Weak<Self>,
}

/// What those need who follow the health of a cluster.
struct Watched {
    changes: watch::Sender<u64>,
    ended: CancellationToken,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

#[derive(Default)]
struct Building {
    /// The names of the destinations, in their order; `None` for addresses and sockets.
    names: Vec<Option<Arc<Name>>>,
    /// Hosts to go on with: those of the view before, or of the cluster before a reload.
    known: Vec<Arc<Host>>,
}

impl Building {
    /// Goes on with hosts that are known.
    fn with(known: Vec<Arc<Host>>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }
}

impl Cluster {
    fn build(
        (name, route): (String, &RouteSettings),
        destinations: &[Destination],
        endpoints: &mut Endpoints,
        roots: &Roots,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, TlsError> {
        let protocol = protocol_of(route, destinations);
        let destinations = destinations
            .iter()
            .map(|to| {
                let known = before.iter().flat_map(|before| before.endpoints());
                let endpoint = endpoints.intern(route, to, protocol, roots, known)?;
                Ok((endpoint, to.weight.max(1)))
            })
            .collect::<Result<Box<[_]>, TlsError>>()?;
        let family = family_of(route);
        let same =
            |before: &&Arc<Self>| before.equals(&destinations, &route.balance) && before.family == family;
        if let Some(before) = before.filter(same) {
            return Ok(before.clone());
        }
        let balance = &route.balance;
        let known = before
            .filter(|before| before.watch() == watch_settings(balance))
            .map(|before| before.known_hosts())
            .unwrap_or_default();
        let cluster = Arc::new_cyclic(|this: &Weak<Self>| Self {
            name: name.into(),
            balance: balance.clone(),
            destinations,
            family,
            counts: before.map_or_else(OnceLock::new, |before| before.counts().clone().into()),
            view: ArcSwapOption::empty(),
            building: Mutex::new((!known.is_empty()).then(|| Box::new(Building::with(known)))),
            used: AtomicBool::new(false),
            traffic: AtomicBool::new(false),
            adopted: AtomicBool::new(false),
            version: AtomicU64::new(0),
            watched: OnceLock::new(),
            this: this.clone(),
        });
        Ok(cluster)
    }

    fn endpoints(&self) -> impl Iterator<Item = Arc<Endpoint>> + '_ {
        self.destinations.iter().map(|(endpoint, _)| endpoint.clone())
    }

    fn equals(&self, destinations: &[Destined], balance: &Balance) -> bool {
        let ids =
            |list: &[Destined]| -> Vec<_> { list.iter().map(|(to, weight)| (to.id, *weight)).collect() };
        ids(&self.destinations) == ids(destinations) && *self.balance == *balance
    }

    fn watch(&self) -> WatchSettings<'_> {
        watch_settings(&self.balance)
    }

    fn known_hosts(&self) -> Vec<Arc<Host>> {
        match &*self.view.load() {
            Some(view) => view.hosts.to_vec(),
            None => self
                .building
                .lock()
                .as_ref()
                .map_or_else(Vec::new, |building| building.known.clone()),
        }
    }

    /// Health checks and outlier detection, when the route has any.
    pub fn health(&self) -> Option<&Arc<Balance>> {
        let (checks, outliers) = self.watch();
        (!checks.is_empty() || outliers.is_some()).then_some(&self.balance)
    }

    /// The hosts right now; empty before they were first looked up.
    pub fn hosts(&self) -> Arc<[Arc<Host>]> {
        match &*self.view.load() {
            Some(view) => view.hosts.clone(),
            None => Arc::from([]),
        }
    }

    /// Changes whenever the hosts or their health change. The number itself means nothing.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.watched().changes.subscribe()
    }

    fn watched(&self) -> &Watched {
        self.watched.get_or_init(|| {
            Box::new(Watched {
                changes: watch::Sender::new(self.version.load(Ordering::Acquire)),
                ended: CancellationToken::new(),
            })
        })
    }

    /// Cancelled when no snapshot and no request has this cluster any more: its tasks end then. A task
    /// holds a `Weak` of the cluster between its turns.
    pub fn ended(&self) -> CancellationToken {
        self.watched().ended.clone()
    }

    /// Whether it ever had a request.
    pub fn has_traffic(&self) -> bool {
        self.traffic.load(Ordering::Relaxed)
    }

    /// True for the first caller only: whoever starts the tasks of the cluster.
    pub(super) fn adopt(&self) -> bool {
        !self.adopted.swap(true, Ordering::AcqRel)
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        self.counts.get_or_init(Arc::default)
    }

    /// The hosts in use with what choosing needs; `None` before the first lookup, and after long disuse.
    fn view(&self) -> arc_swap::Guard<Option<Arc<View>>> {
        if !self.traffic.load(Ordering::Relaxed) {
            self.traffic.store(true, Ordering::Relaxed);
        }
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.view.load()
    }

    /// The host for a request with this `key` (see [`View::choose`]), none of `tried`.
    pub(crate) fn choose(&self, key: u64, tried: &[u64]) -> Choice {
        let view = self.view();
        match &*view {
            None => Choice::Unknown,
            Some(view) => view
                .choose(key, tried)
                .map_or(Choice::None, |host| Choice::Host(host.clone())),
        }
    }

    /// Counts a request in; refused at `max_requests`.
    pub(crate) fn begin(&self) -> Option<Running> {
        self.counts().request(self.balance.breakers.max_requests)
    }

    /// Counts a second attempt; refused at `max_retries`.
    pub(crate) fn retry(&self) -> Option<Pending<'_>> {
        self.counts().retry(self.balance.breakers.max_retries)
    }

    /// Counts a request at its host, where that is looked at.
    pub(crate) fn count_at(&self, running: &mut Running, host: &Arc<Host>) {
        if self.balance.policy == LoadBalancing::LeastRequest {
            running.at(host);
        }
    }

    /// Whether requests came since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Finds the hosts, and keeps them in step with their names for as long as they are used. Waits for
    /// lookups only when nothing is known yet.
    ///
    /// Errors when no name has an address; the next call finds out at once.
    pub async fn resolve(&self, upstreams: &Upstreams) -> Result<(), UpstreamError> {
        let mut names = Vec::with_capacity(self.destinations.len());
        for (endpoint, _) in &self.destinations {
            names.push(needs_lookup(endpoint).map(|host| upstreams.names.get(host, self.family)));
        }
        self.building
            .lock()
            .get_or_insert_default()
            .names
            .clone_from(&names);
        let mut failed = None;
        // One after the other: all are being looked up from the moment they are subscribed to.
        for name in names.iter().flatten() {
            upstreams.names.subscribe(name, self.this.clone());
        }
        for name in names.iter().flatten() {
            failed = name.ready().await.err().or(failed);
        }
        self.rebuild(self.building.lock().get_or_insert_default());
        match failed {
            Some(error) if self.hosts().is_empty() => {
                self.view.store(None);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Puts what the names say now in place, unless nobody has asked for it yet, or not for long: a name that is not
    /// kept up to date says nothing.
    pub(super) fn renew(&self) {
        let mut building = self.building.lock();
        if self.view.load().is_some() {
            self.rebuild(building.get_or_insert_default());
        }
    }

    fn rebuild(&self, building: &mut Building) {
        let before = self.view.load_full();
        let known = match &before {
            Some(view) => view.hosts.to_vec(),
            None => std::mem::take(&mut building.known),
        };
        let mut hosts = Vec::with_capacity(self.destinations.len());
        for (at, (endpoint, weight)) in self.destinations.iter().enumerate() {
            let name = building.names.get(at).and_then(Option::as_ref);
            for addresses in addresses_of(endpoint, name) {
                hosts.push(self.host(&known, endpoint, addresses, *weight));
            }
        }
        let same = before.as_ref().is_some_and(|view| {
            view.hosts.len() == hosts.len() && view.hosts.iter().zip(&hosts).all(|(a, b)| Arc::ptr_eq(a, b))
        });
        if !same {
            let view = View::new(hosts.into(), self.balance.policy, self.balance.panic_threshold.0);
            self.view.store(Some(Arc::new(view)));
            self.changed();
        }
    }

    /// The host of these addresses: the one there is, with its health, or a new one.
    fn host(
        &self,
        known: &[Arc<Host>],
        endpoint: &Arc<Endpoint>,
        addresses: Addresses,
        weight: u32,
    ) -> Arc<Host> {
        let kept = known.iter().find(|host| {
            host.endpoint.id == endpoint.id && host.addresses == addresses && host.weight == weight
        });
        match kept {
            Some(host) => {
                host.moved_to(self.this.clone());
                host.clone()
            }
            None => {
                let checked = !self.watch().0.is_empty();
                Host::new(endpoint.clone(), addresses, weight, (self.this.clone(), checked))
            }
        }
    }

    /// A host became healthy or unhealthy.
    pub(super) fn health_changed(&self) {
        let _one_at_a_time = self.building.lock();
        if let Some(view) = self.view.load_full() {
            let view = view.renewed(self.balance.policy, self.balance.panic_threshold.0);
            self.view.store(Some(Arc::new(view)));
            self.changed();
        }
    }

    fn changed(&self) {
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(watched) = self.watched.get() {
            watched.changes.send_replace(version);
        }
    }

    /// Nobody has used it for long: the next request looks its names up anew. Hosts are remembered.
    pub(super) fn forget(&self) {
        let mut building = self.building.lock();
        if let Some(view) = self.view.swap(None) {
            building.get_or_insert_default().known = view.hosts.to_vec();
        }
    }

    /// Whether requests to it differ in the host they prefer.
    pub(crate) fn hashes(&self) -> bool {
        matches!(
            self.balance.policy,
            LoadBalancing::RingHash | LoadBalancing::Maglev
        )
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("policy", &self.balance.policy)
            .field("hosts", &self.hosts())
            .finish_non_exhaustive()
    }
}

/// What choosing a host comes to.
pub(crate) enum Choice {
    /// This one.
    Host(Arc<Host>),
    /// No host may be used, or all were tried.
    None,
    /// The hosts are not known yet: [`Cluster::resolve`].
    Unknown,
}

type WatchSettings<'a> = (
    &'a [pomerium_config::settings::HealthCheck],
    Option<&'a pomerium_config::settings::OutlierDetection>,
);

/// What the health of hosts depends on: while it stays, hosts keep theirs over a reload.
fn watch_settings(balance: &Balance) -> WatchSettings<'_> {
    (&balance.health_checks, balance.outlier_detection.as_ref())
}

/// The name to look up, unless the endpoint is an address, `localhost` or a socket.
fn needs_lookup(endpoint: &Endpoint) -> Option<&str> {
    match &endpoint.target {
        Target::Tcp(host, _) if host.parse::<IpAddr>().is_err() => Some(host),
        _ => None,
    }
}

/// One item for each host.
fn addresses_of(endpoint: &Endpoint, name: Option<&Arc<Name>>) -> Vec<Addresses> {
    match (&endpoint.target, name) {
        (Target::Unix(_), _) => vec![Addresses::new()],
        (Target::Tcp(..), Some(name)) => name.hosts(),
        (Target::Tcp(host, _), None) => host
            .parse()
            .map(|ip| Addresses::from_iter([ip]))
            .into_iter()
            .collect(),
    }
}

/// Google's serverless services are reached over IPv4 (proxy.md 6.3).
fn family_of(route: &RouteSettings) -> Option<DnsFamily> {
    route.google_audience.as_ref().map(|_| DnsFamily::V4Only)
}

/// All TLS: by ALPN. All h2c: HTTP/2. Otherwise, and where WebSockets are let through: HTTP/1.1
/// (proxy.md 4.9, 6.1). Other upgrades get connections of their own.
fn protocol_of(route: &RouteSettings, destinations: &[Destination]) -> Protocol {
    let websockets = route.upgrades.iter().any(|token| token == "websocket");
    if websockets || destinations.is_empty() {
        Protocol::Http1
    } else if destinations.iter().all(|to| is_tls(to.scheme)) {
        Protocol::Negotiated
    } else if destinations.iter().all(|to| to.scheme == UpstreamScheme::H2c) {
        Protocol::Http2
    } else {
        Protocol::Http1
    }
}

/// Makes the clusters of one snapshot. One that has not changed is the same object as in the snapshot before;
/// `before` holds those by their name.
pub(crate) struct Clusters<'a> {
    roots: &'a Roots,
    before: HashMap<&'a str, &'a Arc<Cluster>>,
    known: HashMap<String, Arc<Cluster>>,
    endpoints: Endpoints,
}

impl<'a> Clusters<'a> {
    pub(crate) fn new(roots: &'a Roots, before: impl Iterator<Item = &'a Arc<Cluster>>) -> Self {
        Self {
            roots,
            before: before.map(|cluster| (&*cluster.name, cluster)).collect(),
            known: HashMap::new(),
            endpoints: Endpoints::default(),
        }
    }

    /// The cluster of a route.
    pub(crate) fn intern(
        &mut self,
        route: &RouteSettings,
        destinations: &[Destination],
    ) -> Result<Arc<Cluster>, TlsError> {
        let name = route.cluster();
        let before = self
            .known
            .get(&*name)
            .or_else(|| self.before.get(&*name).copied())
            .cloned();
        let cluster = Cluster::build(
            (name.clone(), route),
            destinations,
            &mut self.endpoints,
            self.roots,
            before.as_ref(),
        )?;
        self.known.insert(name, cluster.clone());
        Ok(cluster)
    }
}
