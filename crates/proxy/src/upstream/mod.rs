//! Upstreams. Process-wide: what a route forwards to ([`cluster`]), the addresses it stands for
//! ([`host`], [`names`]), which of them a request gets ([`balance`]), how much there may be of everything
//! (`breakers`), and how well they are ([`health`], [`outlier`]). Of each worker: the connections to every host ([`pool`]), dialled in [`connect`].
//!
//! A request looks at a view that others put in place, and takes no lock that a busy worker holds for
//! long; where several workers meet there are counters. A request is sent to one host; another is tried
//! only when it is certain that the first did not look at it.

pub(crate) mod balance;
mod breakers;
pub mod cluster;
pub mod connect;
mod doubt;
pub mod endpoint;
pub mod error;
mod h2pool;
pub mod health;
pub mod host;
mod lease;
mod names;
pub mod outlier;
pub mod pool;
mod shape;
mod start;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pomerium_config::settings::{DnsSettings, UpstreamBind};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
pub use cluster::Cluster;
pub(crate) use cluster::Clusters;
pub use endpoint::Endpoint;
pub use error::UpstreamError;
pub use host::{Host, Outcome};
pub use lease::Lease;
use names::Names;
pub use pool::Pools;
pub(crate) use tls::Roots;
pub use tls::TlsError;
#[cfg(test)]
pub(crate) use tls::unverified_client_config;

/// Settings that all clusters share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpstreamSettings {
    /// How names are looked up.
    pub dns: DnsSettings,
    /// The local end of connections.
    pub bind: UpstreamBind,
}

/// What all workers share about upstreams.
pub struct Upstreams {
    /// Where background work runs: lookups, health checks.
    pub(crate) runtime: Handle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) names: Names,
    bind: ArcSwap<UpstreamBind>,
    /// The work for each cluster of the snapshot in use whose health is watched. Not that of a cluster
    /// which only old requests still have: its hosts may live on in another one.
    keepers: Mutex<HashMap<Box<str>, AbortOnDropHandle<()>>>,
}

impl Upstreams {
    /// Nothing is looked up or started yet.
    pub fn new(runtime: Handle, metrics: Arc<Metrics>, settings: &UpstreamSettings) -> Arc<Self> {
        Arc::new(Self {
            names: Names::new(runtime.clone(), metrics.clone(), &settings.dns),
            runtime,
            metrics,
            bind: ArcSwap::from_pointee(settings.bind),
            keepers: Mutex::default(),
        })
    }

    /// Takes the settings and the clusters of a new snapshot into use. The tasks of a cluster that was
    /// not there before begin here.
    pub(crate) fn adopt<'a>(
        self: &Arc<Self>,
        settings: &UpstreamSettings,
        clusters: impl Iterator<Item = &'a Arc<Cluster>>,
    ) {
        self.names.configure(&settings.dns);
        self.bind.store(Arc::new(settings.bind));
        let mut keepers = self.keepers.lock();
        let mut before = std::mem::take(&mut *keepers);
        for cluster in clusters {
            let Some(balance) = cluster.health() else { continue };
            let kept = before.remove(&cluster.name).filter(|_| !cluster.adopt());
            let keeper = kept.unwrap_or_else(|| health::start(self, cluster, balance.clone()));
            keepers.insert(cluster.name.clone(), keeper);
        }
    }

    /// The local end of new connections.
    pub(crate) fn bind(&self) -> UpstreamBind {
        **self.bind.load()
    }
}
