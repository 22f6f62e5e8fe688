//! The addresses of names, process-wide (spec proxy.md 6.3).
//!
//! A name is looked up when a request first needs it and refreshed while clusters that use it have
//! requests; a task on the control runtime does both, so that only a request that nothing is known for
//! ever waits. What is kept when lookups fail or come back empty is decided in [`held`], how is asked in
//! [`lookup`].

mod held;
mod lookup;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pomerium_config::settings::{DnsFamily, DnsSettings};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::error::UpstreamError;
use super::host::Addresses;
use crate::metrics::Metrics;
use held::{Held, Known};
use lookup::Lookup;

/// A name nobody has asked for so long is not refreshed any more.
const DISUSED: Duration = Duration::from_secs(300);

/// A host, and the family of addresses that is insisted on.
type Key = (Box<str>, Option<DnsFamily>);

/// All names in use.
pub struct Names {
    runtime: Handle,
    metrics: Arc<Metrics>,
    lookup: Arc<ArcSwap<Lookup>>,
    known: Mutex<HashMap<Key, Weak<Name>>>,
    /// Everything is to be asked anew: the settings have changed.
    changed: Arc<Notify>,
}

/// One name with what is known about it.
pub struct Name {
    host: Box<str>,
    /// The family that its clusters insist on, whatever the settings say.
    family: Option<DnsFamily>,
    /// `None` while nobody keeps it up to date.
    known: watch::Sender<Option<Known>>,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    clusters: Vec<Weak<Cluster>>,
    refreshed: bool,
}

impl Names {
    pub(super) fn new(runtime: Handle, metrics: Arc<Metrics>, settings: &DnsSettings) -> Self {
        Self {
            runtime,
            metrics,
            lookup: Arc::new(ArcSwap::from_pointee(Lookup::new(settings.clone()))),
            known: Mutex::default(),
            changed: Arc::default(),
        }
    }

    /// Takes new settings into use, for names already known as well.
    pub(super) fn configure(&self, settings: &DnsSettings) {
        if *self.lookup.load().settings() != *settings {
            self.lookup.store(Arc::new(Lookup::new(settings.clone())));
            self.changed.notify_waiters();
        }
    }

    /// The name `host` with its addresses of `family`; without one, as the settings say. Nothing is asked yet.
    pub(super) fn get(&self, host: &str, family: Option<DnsFamily>) -> Arc<Name> {
        let key = (host.into(), family);
        let mut known = self.known.lock();
        if let Some(name) = known.get(&key).and_then(Weak::upgrade) {
            return name;
        }
        let name = Arc::new(Name {
            host: host.into(),
            family,
            known: watch::Sender::new(None),
            users: Mutex::default(),
        });
        known.retain(|_, name| name.strong_count() > 0);
        known.insert(key, Arc::downgrade(&name));
        name
    }

    /// Keeps `name` up to date while `cluster` has requests; a change rebuilds the cluster.
    pub(super) fn subscribe(&self, name: &Arc<Name>, cluster: Weak<Cluster>) {
        let mut users = name.users.lock();
        if !users.clusters.iter().any(|known| known.ptr_eq(&cluster)) {
            users.clusters.push(cluster);
        }
        if !users.refreshed {
            users.refreshed = true;
            self.runtime.spawn(refresh(
                name.clone(),
                self.lookup.clone(),
                self.metrics.clone(),
                self.changed.clone(),
            ));
        }
    }
}

impl Name {
    /// Waits until something is known, good or bad.
    pub(super) async fn ready(&self) -> Result<(), UpstreamError> {
        let mut known = self.known.subscribe();
        let found = known.wait_for(Option::is_some).await;
        match found.as_deref() {
            Ok(Some(Known::Failed(source))) => Err(UpstreamError::NoAddress {
                host: self.host.to_string(),
                source: source.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// One item for each host. `localhost` is one host, whichever family it answers on.
    pub(super) fn hosts(&self) -> Vec<Addresses> {
        let known = self.known.borrow();
        let Some(Known::Addresses(addresses)) = &*known else {
            return Vec::new();
        };
        if is_localhost(&self.host) {
            return vec![addresses.iter().copied().collect()];
        }
        addresses
            .iter()
            .map(|address| Addresses::from_iter([*address]))
            .collect()
    }

    fn publish(&self, known: Known) {
        let changed = self.known.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&known);
            *current = Some(known);
            changed
        });
        if changed {
            for cluster in self.clusters() {
                cluster.renew();
            }
        }
    }

    fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.users
            .lock()
            .clusters
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Whether some cluster had requests since the last time. If not, and if that has been so for `long`, the name is
    /// let go of: under the lock under which others subscribe, so that whoever does is looked after or starts anew.
    fn use_of(&self, long: bool) -> Use {
        let mut users = self.users.lock();
        if users.take_used() {
            return Use::Used;
        }
        if !long {
            return Use::Unused;
        }
        users.refreshed = false;
        self.known.send_replace(None);
        let clusters = std::mem::take(&mut users.clusters);
        drop(users);
        for cluster in clusters.iter().filter_map(Weak::upgrade) {
            cluster.forget();
        }
        Use::LetGo
    }
}

/// What a name is good for.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// Some cluster had requests.
    Used,
    /// None had.
    Unused,
    /// None had for long: nobody keeps it up to date any more.
    LetGo,
}

impl Users {
    /// Whether some cluster had requests since the last time; clusters that are gone are dropped.
    fn take_used(&mut self) -> bool {
        self.clusters.retain(|cluster| cluster.strong_count() > 0);
        // No short cut: the mark of every cluster is taken back.
        self.clusters
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|cluster| cluster.take_used() || cluster.health().is_some())
            .count()
            > 0
    }
}

/// `localhost` means this machine, whatever a name server says (RFC 6761 6.3).
fn is_localhost(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
}

/// Addresses of `localhost` in the order in which they are tried.
fn localhost(family: DnsFamily) -> Vec<IpAddr> {
    let (v4, v6) = (
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    );
    match family {
        DnsFamily::V4Only => vec![v4],
        DnsFamily::V6Only => vec![v6],
        DnsFamily::Auto | DnsFamily::V4Preferred | DnsFamily::All => vec![v4, v6],
    }
}

async fn refresh(name: Arc<Name>, lookup: Arc<ArcSwap<Lookup>>, metrics: Arc<Metrics>, changed: Arc<Notify>) {
    let mut held = Held::default();
    let mut used = Instant::now();
    let mut empty = false;
    loop {
        let settings_changed = changed.notified();
        let asking = lookup.load_full();
        let family = name.family.unwrap_or(asking.settings().family);
        let answer = if is_localhost(&name.host) {
            lookup::Answer::Found(localhost(family), None)
        } else {
            asking.ask(&name.host, family).await
        };
        match &answer {
            lookup::Answer::Failed(error) => {
                metrics.dns_failure();
                tracing::warn!(host = &*name.host, %error, "a name of an upstream cannot be looked up");
            }
            lookup::Answer::Empty if !std::mem::replace(&mut empty, true) => {
                tracing::warn!(host = &*name.host, "a name of an upstream has no addresses");
            }
            lookup::Answer::Empty => {}
            lookup::Answer::Found(..) => empty = false,
        }
        let (known, wait) = held.learn(answer, Instant::now(), asking.settings());
        name.publish(known);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = settings_changed => {}
        }
        let now = Instant::now();
        match name.use_of(now.duration_since(used) >= DISUSED) {
            Use::Used => used = now,
            Use::Unused => {}
            Use::LetGo => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_was_let_go_of_is_looked_up_anew_for_the_next() {
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()).unwrap());
        let names = Names::new(Handle::current(), metrics, &DnsSettings::default());
        let name = names.get("localhost", None);
        for _ in 0..3 {
            names.subscribe(&name, Weak::new());
            tokio::time::timeout(Duration::from_secs(10), name.ready())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(name.hosts().len(), 1);
            assert_eq!(name.use_of(false), Use::Unused);
            assert_eq!(name.hosts().len(), 1);
            assert_eq!(name.use_of(true), Use::LetGo);
            assert!(name.hosts().is_empty());
        }
    }
}
