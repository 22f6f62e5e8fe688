//! Exact domains: which virtual hosts exist, and which routes live in them.

use std::sync::Arc;

use pomerium_config::settings::{Domains, HostMatch, Origin, RouteSettings};

use super::Hosts;

/// Splits `host[:port]`; the brackets of an IPv6 literal stay with the host.
pub fn split_authority(authority: &str) -> (&str, Option<&str>) {
    let tail = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[tail..].rfind(':') {
        Some(colon) => (&authority[..tail + colon], Some(&authority[tail + colon + 1..])),
        None => (authority, None),
    }
}

/// Makes sure that the domains a route brings with it exist.
///
/// With any-port matching the second form (`h:443`) makes no host of its own: it would shadow `h` for
/// that port. It only lets the route join such a host where another route asked for it.
pub(super) fn declare(hosts: &mut Hosts, wanted: &HostMatch) {
    let HostMatch::Exact { domains, any_port } = wanted else {
        return;
    };
    let mut own = |domain: Arc<str>| {
        let without_port = split_authority(&domain).1.is_none();
        hosts.entry(domain).or_default().any_port |= *any_port && without_port;
    };
    match domains {
        // The table shares the text.
        Domains::Host(host, _) if *any_port => own(host.clone()),
        domains => domains.iter().for_each(|domain| own(domain.into())),
    }
}

/// Makes sure that a `tls_downstream_server_name` exists as a host. It has no routes of its own: only
/// internal paths answer there.
pub(super) fn declare_server_name(hosts: &mut Hosts, name: &str, any_port: bool) {
    let host = hosts.entry(name.to_lowercase().into()).or_default();
    host.any_port |= any_port && split_authority(name).1.is_none();
}

/// Puts a route into every host that exists under one of its domains.
pub(super) fn join(hosts: &mut Hosts, route: &RouteSettings, index: u32) {
    let HostMatch::Exact { domains, .. } = &route.hosts else {
        return;
    };
    for domain in domains.iter() {
        if let Some(host) = hosts.get_mut(&*domain) {
            host.routes.push(index);
            host.elsewhere |= route.leads_to_sign_in;
        }
    }
}

/// Adds the host of the authenticate service, in the same two forms as a route's.
pub(super) fn declare_authenticate(hosts: &mut Hosts, origin: &Origin, any_port: bool) {
    let default_port = if origin.scheme == "http" { 80 } else { 443 };
    let plain = origin.port.is_none_or(|port| port == default_port);
    let mut domains = Vec::with_capacity(2);
    if plain {
        domains.push(origin.host.clone());
        domains.push(format!("{}:{default_port}", origin.host));
    } else {
        domains.push(origin.authority());
    }
    for (position, domain) in domains.into_iter().enumerate() {
        let explicit = position == 0 || !any_port;
        if explicit {
            let host = hosts.entry(domain.into()).or_default();
            host.any_port |= plain && any_port;
            host.authenticate = true;
        } else if let Some(host) = hosts.get_mut(domain.as_str()) {
            host.authenticate = true;
        }
    }
}
