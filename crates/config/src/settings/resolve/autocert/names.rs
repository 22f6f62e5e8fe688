//! Which names certificates are wanted for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Cx;
use crate::diagnostic::{Origin, Place};
use crate::settings::RouteSettings;
use crate::settings::resolve::identity;
use crate::spec::go_url::GoUrl;
use crate::spec::values::Values;

/// Hosts of https, tcp and udp routes and of the authenticate service, sorted. A pattern counts only where
/// `dns` challenges are made, and only in the form that certificates know, `*.example.com`.
pub(super) fn resolve(
    values: &Values,
    routes: &[Arc<RouteSettings>],
    (dns, alone): (bool, bool),
    cx: &mut Cx<'_>,
) -> Vec<String> {
    let mut names = BTreeSet::new();
    for asked in of_file(values).chain(of_records(routes)) {
        let Some(host) = public_host(asked.from) else {
            continue;
        };
        match problem(&host, dns) {
            None => {
                names.insert(host);
            }
            Some(problem) if alone => {
                let message = format!("there will be no certificate for {host}: {problem}");
                let help = "give the route a certificate with `certificates`";
                cx.sink.warn(asked.place, asked.key, message, help);
            }
            Some(_) => {}
        }
    }
    let authenticate = values.some_text("authenticate_service_url");
    let own = authenticate
        .and_then(|url| GoUrl::parse(url).ok())
        .map(|url| url.hostname().to_lowercase())
        .filter(|host| !identity::HOSTED_HOSTS.contains(&host.as_str()) && problem(host, dns).is_none());
    names.extend(own);
    names.into_iter().collect()
}

/// A host that is wanted, and where that stands.
struct Asked<'a> {
    from: &'a str,
    place: Place,
    key: String,
}

fn of_file(values: &Values) -> impl Iterator<Item = Asked<'_>> {
    let routes = values.objects("policy").iter().chain(values.objects("routes"));
    routes.map(|route| Asked {
        from: match &route.known {
            Some(known) => &known.from,
            None => route.text("from"),
        },
        place: route.place("from"),
        key: route.key("from"),
    })
}

fn of_records(routes: &[Arc<RouteSettings>]) -> impl Iterator<Item = Asked<'_>> {
    routes.iter().filter_map(|route| {
        let record = route.record.as_deref()?;
        Some(Asked {
            from: &route.from,
            place: Place {
                origin: Origin::Record,
                ..Place::default()
            },
            key: format!("{record}.from"),
        })
    })
}

fn public_host(from: &str) -> Option<String> {
    let url = GoUrl::parse(from).ok()?;
    let public = matches!(url.scheme.as_str(), "https" | "tcp+https" | "udp+https");
    let host = url.hostname().trim_end_matches('.').to_lowercase();
    (public && !host.is_empty()).then_some(host)
}

fn problem(host: &str, dns: bool) -> Option<&'static str> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Some("it is an address");
    }
    if !host.contains('*') {
        return None;
    }
    let one_label = host.strip_prefix("*.").is_some_and(|rest| !rest.contains('*'));
    match (one_label, dns) {
        (true, true) => None,
        (true, false) => Some("patterns need `autocert_dns`"),
        (false, _) => Some("certificates know patterns of the form *.example.com only"),
    }
}
