//! Which host asks clients for a certificate, and by whom.
//!
//! A handshake knows a name and no route yet: it asks for the authorities of every route under that name, and for the
//! global ones. A handshake for a name nobody knows, or for none, asks for all there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use pomerium_certs::client::{Anchors, ClientTrust, Demand, Rules};
use pomerium_config::settings::{DownstreamMtls, Enforcement, HostMatch, Settings};
use regex::RegexSet;

use crate::router::split_authority;

type Own = HashMap<Box<[u8]>, Arc<ClientTrust>, foldhash::fast::RandomState>;

/// The demands of one configuration.
#[derive(Debug)]
pub(crate) struct Demands {
    global: Option<Arc<Demand>>,
    /// Of a handshake without a name that is known.
    widest: Arc<Demand>,
    /// Only when some route has authorities of its own; otherwise every host is like any other.
    special: Option<Hosts>,
}

/// Demands by host name, without port.
#[derive(Debug)]
struct Hosts {
    exact: HashMap<Box<str>, Option<Arc<Demand>>, foldhash::fast::RandomState>,
    patterns: RegexSet,
    of_patterns: Vec<Option<Arc<Demand>>>,
}

/// What is collected about a host.
#[derive(Default)]
struct Host {
    anchors: Option<Anchors>,
    /// A name without port keeps its requests from the patterns.
    closed: bool,
}

impl Host {
    fn join(&mut self, more: Option<&Anchors>) {
        self.anchors = match (self.anchors.take(), more) {
            (Some(own), Some(more)) => Some(own.union(more)),
            (own, more) => own.or_else(|| more.cloned()),
        };
    }
}

/// Makes demands, each once.
struct Maker<'a> {
    rules: Arc<Rules>,
    strict: bool,
    previous: Option<&'a Demands>,
    made: Vec<Arc<Demand>>,
}

impl Maker<'_> {
    fn make(&mut self, anchors: Anchors) -> Arc<Demand> {
        let trust = Arc::new(ClientTrust::new(anchors, Arc::clone(&self.rules)));
        let demand = Demand::new(trust, self.strict);
        let before = self.previous.into_iter().flat_map(Demands::all);
        if let Some(known) = self.made.iter().chain(before).find(|known| known.same(&demand)) {
            return Arc::clone(known);
        }
        let demand = Arc::new(demand);
        self.made.push(Arc::clone(&demand));
        demand
    }
}

impl Demands {
    /// Works them out. `every` are all authorities there are.
    pub(super) fn build(
        settings: &Settings,
        (global, own): (Option<&Arc<ClientTrust>>, &Own),
        (every, rules): (Anchors, Arc<Rules>),
        previous: Option<&Self>,
    ) -> Self {
        let mut maker = Maker {
            rules,
            strict: is_strict(settings),
            previous,
            made: Vec::new(),
        };
        let demanded = global.map(|trust| maker.make(trust.anchors().clone()));
        let special = (!own.is_empty())
            .then(|| hosts(settings, (global.map(|trust| trust.anchors()), own), &mut maker));
        Self {
            widest: maker.make(every),
            global: demanded,
            special,
        }
    }

    /// What a handshake for `server_name` asks for.
    pub(crate) fn asked(&self, server_name: Option<&str>) -> Option<&Arc<Demand>> {
        let Some(special) = &self.special else {
            return self.global.as_ref();
        };
        match server_name.and_then(|name| special.find(&normal(name))) {
            Some(known) => known.resolve(&self.widest),
            None => Some(&self.widest),
        }
    }

    /// What a request for `host` (canonical, without port) has to have been asked for.
    pub(crate) fn wanted(&self, host: &str) -> Option<&Arc<Demand>> {
        let known = self.special.as_ref().and_then(|special| special.find(host));
        match known {
            Some(known) => known.resolve(&self.widest),
            None => self.global.as_ref(),
        }
    }

    /// Whether there is no host that asks for nothing.
    pub(crate) fn asks_everyone(&self) -> bool {
        self.global.is_some()
    }

    /// Of a handshake whose name is not known.
    pub(crate) fn widest(&self) -> &Arc<Demand> {
        &self.widest
    }

    /// Every demand there is; some more than once.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Demand>> {
        let special = self.special.iter().flat_map(|hosts| {
            let exact = hosts.exact.values();
            exact.chain(&hosts.of_patterns).flatten()
        });
        special.chain(&self.global).chain([&self.widest])
    }
}

/// What is known about a name.
enum Known<'a> {
    One(Option<&'a Arc<Demand>>),
    /// Patterns with different demands fit it.
    Several,
}

impl<'a> Known<'a> {
    /// Of several demands the widest: which route answers is not known yet.
    fn resolve(self, widest: &'a Arc<Demand>) -> Option<&'a Arc<Demand>> {
        match self {
            Self::One(demand) => demand,
            Self::Several => Some(widest),
        }
    }
}

impl Hosts {
    fn find(&self, host: &str) -> Option<Known<'_>> {
        if let Some(demand) = self.exact.get(host) {
            return Some(Known::One(demand.as_ref()));
        }
        let mut fitting = self.patterns.matches(host).into_iter();
        let first = self.of_patterns[fitting.next()?].as_ref();
        let same = |other: Option<&Arc<Demand>>| match (first, other) {
            (Some(first), Some(other)) => Arc::ptr_eq(first, other),
            (None, None) => true,
            _ => false,
        };
        if fitting.all(|index| same(self.of_patterns[index].as_ref())) {
            Some(Known::One(first))
        } else {
            Some(Known::Several)
        }
    }
}

/// Whether the handshake judges.
fn is_strict(settings: &Settings) -> bool {
    let reject = |mtls: &DownstreamMtls| mtls.enforcement == Enforcement::RejectConnection;
    settings.downstream_mtls.as_ref().is_some_and(reject)
}

/// One spelling of a name in a handshake: lower case, without the dot at its end.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn hosts(settings: &Settings, (global, own): (Option<&Anchors>, &Own), maker: &mut Maker<'_>) -> Hosts {
    let mut exact = HashMap::<Box<str>, Host, foldhash::fast::RandomState>::default();
    let mut patterns = HashMap::<String, Host, foldhash::fast::RandomState>::default();
    for route in &settings.routes {
        let anchors = route
            .downstream_ca
            .as_deref()
            .and_then(|pem| own.get(pem))
            .map(|trust| trust.anchors());
        match &route.hosts {
            HostMatch::Exact { domains, any_port } => {
                for domain in domains.iter() {
                    let (name, port) = split_authority(&domain);
                    let host = exact.entry(name.into()).or_default();
                    host.join(anchors);
                    host.closed |= *any_port && port.is_none();
                }
            }
            HostMatch::Wildcard { pattern, .. } => {
                let name = split_authority(pattern).0;
                patterns.entry(name.to_owned()).or_default().join(anchors);
            }
        }
        if let Some(name) = &route.downstream_server_name {
            exact.entry(name.as_str().into()).or_default().join(anchors);
        }
    }
    for origin in [&settings.authenticate.url, &settings.authenticate.internal_url] {
        if let Entry::Vacant(vacant) = exact.entry(origin.host.as_str().into()) {
            vacant.insert(Host {
                closed: true,
                ..Host::default()
            });
        }
    }
    let texts: Vec<String> = patterns.keys().map(|pattern| expression(pattern)).collect();
    // Escaped text and `.*` always compile, unless they are larger than any configuration; then nothing is known by
    // a pattern, and every such host is asked for everything.
    let set = RegexSet::new(&texts).unwrap_or_else(|error| {
        tracing::error!(%error, "client certificates: host patterns cannot be told apart");
        RegexSet::empty()
    });
    let known: Vec<Option<Anchors>> = patterns.into_values().map(|host| host.anchors).collect();
    for (name, host) in exact.iter_mut().filter(|(_, host)| !host.closed) {
        for index in &set.matches(name) {
            host.join(known[index].as_ref());
        }
    }
    let mut make = |anchors: Option<Anchors>| match (anchors, global) {
        (Some(own), Some(global)) => Some(maker.make(own.union(global))),
        (Some(own), None) => Some(maker.make(own)),
        (None, Some(global)) => Some(maker.make(global.clone())),
        (None, None) => None,
    };
    Hosts {
        exact: exact
            .into_iter()
            .map(|(name, host)| (name, make(host.anchors)))
            .collect(),
        of_patterns: known.into_iter().map(&mut make).collect(),
        patterns: set,
    }
}

/// The host part of a pattern as an expression over a whole name.
fn expression(pattern: &str) -> String {
    let parts: Vec<_> = pattern.split('*').map(regex::escape).collect();
    format!("^{}$", parts.join(".*"))
}
