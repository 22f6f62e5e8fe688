//! Which route answers a request: hash on the host, then the routes of that host in file order.
//!
//! Here: virtual hosts, wildcards, path matchers, internal paths (spec proxy.md 4.1–4.4). Not here:
//! what a route does. Start at [`RouteTable::find`].

mod host;
mod internal;
mod path;
mod wildcard;

use std::collections::HashMap;
use std::sync::Arc;

use pomerium_config::settings::{HostMatch, Origin, RouteKind, RouteSettings};

pub use host::split_authority;
pub use internal::InternalPath;
use path::PathMatcher;
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
    hosts: HashMap<Box<str>, VirtualHost, foldhash::fast::RandomState>,
    catch_all: CatchAll,
    matchers: Vec<PathMatcher>,
}

/// One exact domain with its own routes; nothing outside it is consulted (proxy.md 4.2).
#[derive(Debug, Default)]
struct VirtualHost {
    any_port: bool,
    authenticate: bool,
    routes: Vec<usize>,
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
        let mut hosts =
            HashMap::with_capacity_and_hasher(routes.len(), foldhash::fast::RandomState::default());
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
        for (index, route) in routes.iter().enumerate() {
            if route.kind == RouteKind::Http {
                host::join(&mut hosts, &route.hosts, index);
            }
        }
        let matchers = routes
            .iter()
            .map(|route| {
                PathMatcher::compile(&route.path).map_err(|source| pattern_error(route, &route.path, source))
            })
            .collect::<Result<_, _>>()?;
        let catch_all = CatchAll::build(routes)?;
        Ok(Self {
            hosts,
            catch_all,
            matchers,
        })
    }

    /// Finds what answers. `authority` is lower case, `host[:port]`; `path` is canonical, without query.
    pub fn find(&self, authority: &str, path: &str) -> Match {
        let host = self.virtual_host(authority);
        let authenticate = host.is_some_and(|host| host.authenticate);
        if let Some(internal) = InternalPath::of(path, authenticate) {
            let first = match host {
                Some(host) => host.routes.first().copied(),
                None => self.catch_all.find(authority, |_| true),
            };
            return Match::Internal(internal, first);
        }
        let found = match host {
            Some(host) => host
                .routes
                .iter()
                .copied()
                .find(|&index| self.matchers[index].matches(path)),
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

    /// The matcher of a route, for rewriting the prefix that matched.
    pub(crate) fn matched_prefix(&self, index: usize) -> Option<&str> {
        self.matchers[index].prefix()
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

fn pattern_error(
    route: &RouteSettings,
    matcher: &pomerium_config::settings::PathMatch,
    source: regex::Error,
) -> PatternError {
    let pattern = match matcher {
        pomerium_config::settings::PathMatch::Regex(pattern) => pattern.clone(),
        _ => String::new(),
    };
    PatternError {
        route: route.from.clone(),
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
