//! Which route answers a request: hash on the host, then the routes of that host in file order.
//!
//! Here: virtual hosts, wildcards, path matchers, internal paths (spec proxy.md 4.1–4.4). Not here:
//! what a route does. Start at [`RouteTable::find`].

mod host;
mod internal;
mod path;
mod paths;
mod wildcard;

use std::collections::HashMap;
use std::sync::Arc;

use pomerium_config::settings::{HostMatch, Origin, PathMatch, RouteKind, RouteSettings};

pub use host::split_authority;
pub use internal::InternalPath;
use path::PathMatcher;
use paths::PathIndex;
use wildcard::CatchAll;

/// A pattern of a route that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("route {route}: the pattern {pattern:?} cannot be used: {source}")]
pub struct PatternError {
    /// `from` of the route.
    pub route: String,
    /// The pattern as written.
    pub pattern: String,
    /// What the regular expression engine says.
    pub source: Box<regex::Error>,
}

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// A path of the control plane, and the first route of the host for its settings (if there is one).
    Internal(InternalPath, Option<usize>),
    /// The route at this index of the list the table was built from.
    Route(usize),
    /// Nothing.
    None,
}

/// Compiled routes of one configuration. Cheap to share, never changed.
#[derive(Debug)]
pub struct RouteTable {
    hosts: Arc<Hosts>,
    catch_all: Arc<CatchAll>,
    matchers: Vec<PathMatcher>,
    /// What it was built from, to tell what has changed.
    source: Source,
}

type Hosts = HashMap<Arc<str>, VirtualHost, foldhash::fast::RandomState>;

/// One exact domain with its own routes; nothing outside it is consulted (proxy.md 4.2).
#[derive(Debug, Default)]
struct VirtualHost {
    any_port: bool,
    authenticate: bool,
    /// A route leads to the authenticate service, another process: no path of this host is ours.
    elsewhere: bool,
    routes: HostRoutes,
}

/// The routes of one host, in list order. Small: most hosts have one, and there are thousands.
#[derive(Debug, Default)]
enum HostRoutes {
    #[default]
    None,
    One(u32),
    Several(Box<SeveralRoutes>),
}

#[derive(Debug)]
struct SeveralRoutes {
    routes: Vec<u32>,
    /// Where there are many.
    index: Option<PathIndex>,
}

#[derive(Debug)]
struct Source {
    routes: Vec<Arc<RouteSettings>>,
    authenticate: Vec<Origin>,
    any_port: bool,
}

impl Source {
    /// Whether hosts and paths, the keys of the table, are the same.
    fn same_keys(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<RouteSettings>, &Arc<RouteSettings>)| {
            Arc::ptr_eq(a, b)
                || (a.kind == b.kind
                    && a.hosts == b.hosts
                    && a.path == b.path
                    && a.leads_to_sign_in == b.leads_to_sign_in
                    && a.downstream_server_name == b.downstream_server_name)
        };
        self.any_port == other.any_port
            && self.authenticate == other.authenticate
            && self.routes.len() == other.routes.len()
            && self.routes.iter().zip(&other.routes).all(same)
    }
}

impl RouteTable {
    /// Compiles `routes`. `authenticate` are the origins under which this process answers as the
    /// authenticate service; `any_port` is the flag `match_any_incoming_port`.
    ///
    /// Errors when a path or host pattern does not compile.
    pub fn build(
        routes: &[Arc<RouteSettings>],
        authenticate: &[Origin],
        any_port: bool,
    ) -> Result<Self, PatternError> {
        Self::rebuild(None, routes, authenticate, any_port)
    }

    /// As [`RouteTable::build`]; `previous` lends what has not changed.
    pub(crate) fn rebuild(
        previous: Option<&Self>,
        routes: &[Arc<RouteSettings>],
        authenticate: &[Origin],
        any_port: bool,
    ) -> Result<Self, PatternError> {
        let source = Source {
            routes: routes.to_vec(),
            authenticate: authenticate.to_vec(),
            any_port,
        };
        if let Some(same) = previous.filter(|previous| previous.source.same_keys(&source)) {
            return Ok(Self {
                hosts: same.hosts.clone(),
                catch_all: same.catch_all.clone(),
                matchers: same.matchers.clone(),
                source,
            });
        }
        let matchers = matchers(previous, routes)?;
        let mut hosts = Hosts::with_capacity_and_hasher(routes.len(), foldhash::fast::RandomState::default());
        for route in routes {
            host::declare(&mut hosts, &route.hosts);
        }
        for name in routes
            .iter()
            .filter_map(|route| route.downstream_server_name.as_deref())
        {
            host::declare_server_name(&mut hosts, name, any_port);
        }
        for origin in authenticate {
            host::declare_authenticate(&mut hosts, origin, any_port);
        }
        for (index, route) in (0..).zip(routes) {
            if route.kind == RouteKind::Http {
                host::join(&mut hosts, route, index);
            }
        }
        for host in hosts.values_mut() {
            host.routes.index(&matchers);
        }
        Ok(Self {
            hosts: Arc::new(hosts),
            catch_all: Arc::new(CatchAll::build(routes)?),
            matchers,
            source,
        })
    }

    /// Finds what answers. `authority` is lower case, `host[:port]`; `path` is canonical, without query.
    pub fn find(&self, authority: &str, path: &str) -> Match {
        // `OPTIONS *` and a pathless CONNECT are no paths, whatever a pattern may say.
        if !path.starts_with('/') {
            return Match::None;
        }
        let host = self.virtual_host(authority);
        let authenticate = host.is_some_and(|host| host.authenticate);
        let elsewhere = host.is_some_and(|host| host.elsewhere);
        if let Some(internal) = InternalPath::of(path, authenticate).filter(|_| !elsewhere) {
            let first = match host {
                Some(host) => host.routes.all().first().map(|&index| index as usize),
                None => self.catch_all.find(authority, |_| true),
            };
            return Match::Internal(internal, first);
        }
        let found = match host {
            Some(host) => host.routes.find(path, &self.matchers),
            None => self
                .catch_all
                .find(authority, |index| self.matchers[index].matches(path)),
        };
        found.map_or(Match::None, Match::Route)
    }

    /// Whether any route (or the authenticate service) answers for `authority`, whatever the path.
    pub fn knows_host(&self, authority: &str) -> bool {
        self.virtual_host(authority).is_some() || self.catch_all.find(authority, |_| true).is_some()
    }

    /// Whether it is known that `authority` is ours: a route (or the authenticate service) answers for it by a name that
    /// not anybody can register. Only there are people sent with a session.
    pub fn owns_host(&self, authority: &str) -> bool {
        let firm = |index: usize| !self.source.routes[index].hosts.is_open_ended();
        self.virtual_host(authority).is_some() || self.catch_all.find(authority, firm).is_some()
    }

    /// As [`Self::knows_host`] for a host without its port, as assertions name it: whichever port the route has.
    pub fn knows_name(&self, host: &str) -> bool {
        self.knows_host(host) || self.hosts.keys().any(|own| split_authority(own).0 == host)
    }

    /// Whether `authority` is where this process answers as the authenticate service.
    pub(crate) fn is_authenticate(&self, authority: &str) -> bool {
        self.virtual_host(authority).is_some_and(|host| host.authenticate)
    }

    fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        if let Some(host) = self.hosts.get(authority) {
            return Some(host);
        }
        match split_authority(authority) {
            (name, Some(_)) => self.hosts.get(name).filter(|host| host.any_port),
            (_, None) => None,
        }
    }
}

impl HostRoutes {
    fn push(&mut self, route: u32) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(route),
            Self::One(first) => Self::Several(Box::new(SeveralRoutes {
                routes: vec![first, route],
                index: None,
            })),
            Self::Several(mut several) => {
                several.routes.push(route);
                Self::Several(several)
            }
        };
    }

    /// When all are there.
    fn index(&mut self, matchers: &[PathMatcher]) {
        if let Self::Several(several) = self {
            several.routes.shrink_to_fit();
            several.index = PathIndex::of(&several.routes, matchers);
        }
    }

    fn all(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(route) => std::slice::from_ref(route),
            Self::Several(several) => &several.routes,
        }
    }

    /// The first route in list order that takes the path.
    fn find(&self, path: &str, matchers: &[PathMatcher]) -> Option<usize> {
        if let Self::Several(several) = self
            && let Some(index) = &several.index
        {
            return index.find(path, matchers);
        }
        let mut routes = self.all().iter().map(|&index| index as usize);
        routes.find(|&index| matchers[index].matches(path))
    }
}

/// The path matchers of all routes; those of unchanged paths are shared with `previous`.
fn matchers(
    previous: Option<&RouteTable>,
    routes: &[Arc<RouteSettings>],
) -> Result<Vec<PathMatcher>, PatternError> {
    let mut known: HashMap<&PathMatch, &PathMatcher> = HashMap::new();
    if let Some(previous) = previous {
        let all = previous.source.routes.iter().zip(&previous.matchers);
        // The others are made as fast as found.
        let patterns = all.filter(|(_, matcher)| matches!(matcher, PathMatcher::Regex(_)));
        known.extend(patterns.map(|(route, matcher)| (&route.path, matcher)));
    }
    routes
        .iter()
        .map(|route| match known.get(&route.path) {
            Some(&matcher) => Ok(matcher.clone()),
            None => {
                PathMatcher::compile(&route.path).map_err(|source| pattern_error(route, &route.path, source))
            }
        })
        .collect()
}

fn pattern_error(route: &RouteSettings, matcher: &PathMatch, source: regex::Error) -> PatternError {
    let pattern = match matcher {
        PathMatch::Regex(pattern) => pattern.to_string(),
        _ => String::new(),
    };
    PatternError {
        route: route.from.to_string(),
        pattern,
        source: Box::new(source),
    }
}

/// Whether a host setting is a pattern.
fn wildcard_of(hosts: &HostMatch) -> Option<&str> {
    match hosts {
        HostMatch::Wildcard { regex, .. } => Some(regex),
        HostMatch::Exact { .. } => None,
    }
}

#[cfg(test)]
mod tests;
