//! What a route says beside its matcher, its action and its policy. Most routes say the same, and share it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pomerium_policy::Part;

use super::super::{Cx, balance, headers, http, identity, mtls, rate_limit};
use super::{Inherited, rewrite, upstream_identity};
use crate::settings::{IdpSettings, IssuerFormat, KubernetesToken, RouteKind, RouteOptions, UpstreamTls};
use crate::spec::values::Values;

/// No bytes either way for this long ends a request, where the route says nothing (proxy.md 5).
const DEFAULT_IDLE: Duration = Duration::from_secs(300);
/// How many different options are compared with those of a route.
const REMEMBERED: usize = 16;

/// What has been read of a route already.
pub(super) struct Read {
    pub kind: RouteKind,
    pub leads_to_sign_in: bool,
    pub depends_on: Vec<String>,
    pub told_policies: Option<Arc<[Part]>>,
    pub upstream_tls: UpstreamTls,
    pub kubernetes_token: Option<KubernetesToken>,
}

/// Options of the last routes, newest first: the next one probably has the same.
#[derive(Default)]
pub(super) struct Alike(RefCell<VecDeque<Arc<RouteOptions>>>);

impl Alike {
    /// These options, shared with a route before that has the same.
    pub(super) fn share(&self, options: RouteOptions) -> Arc<RouteOptions> {
        let mut known = self.0.borrow_mut();
        if let Some(same) = known.iter().find(|known| ***known == options) {
            return same.clone();
        }
        let own = Arc::new(options);
        known.truncate(REMEMBERED - 1);
        known.push_front(own.clone());
        own
    }
}

pub(super) fn resolve(
    route: &Values,
    read: Read,
    inherited: &Inherited<'_>,
    cx: &mut Cx<'_>,
) -> RouteOptions {
    let (global, plain) = (inherited.global, &inherited.plain);
    let upgrades = upgrades(route, global);
    for name in ["timeout", "idle_timeout"] {
        http::not_negative(route, name, cx);
    }
    let (timeout, idle_timeout) = timeouts(route, global, read.kind, &upgrades);
    RouteOptions {
        description: route.text("description").to_owned(),
        logo_url: route.text("logo_url").to_owned(),
        host_rewrite: rewrite::host(route, cx),
        show_error_details: route.on("show_error_details"),
        told_policies: read.told_policies,
        depends_on: read.depends_on,
        leads_to_sign_in: read.leads_to_sign_in,
        idp: idp(route, inherited, cx),
        set_request_headers: rewrite::set_request_headers(route, cx),
        remove_request_headers: rewrite::remove_request_headers(route, cx),
        set_response_headers: if route.is_set("set_response_headers") {
            headers::of_route(&inherited.response_headers, route, cx).into()
        } else {
            plain.headers.clone()
        },
        rewrite_response_headers: rewrite::response_prefixes(route, cx),
        pass_identity_headers: route
            .bool("pass_identity_headers")
            .or_else(|| global.bool("pass_identity_headers"))
            .unwrap_or(false),
        jwt_issuer_format: issuer_format(route, global),
        groups_filter: groups_filter(route, global),
        kubernetes_token: read.kubernetes_token,
        google_audience: upstream_identity::google_audience(route),
        upgrades,
        timeout,
        idle_timeout,
        upstream_tls: match read.upstream_tls.is_plain() {
            true => plain.tls.clone(),
            false => Arc::new(read.upstream_tls),
        },
        balance: match balance::resolve(route, inherited.breakers, cx) {
            same if same == *plain.balance => plain.balance.clone(),
            own => Arc::new(own),
        },
        rate_limit: rate_limit::resolve(route, cx).or(inherited.rate_limit),
        downstream_server_name: route
            .some_text("tls_downstream_server_name")
            .map(str::to_lowercase),
        downstream_ca: mtls::of_route(route, cx),
    }
}

fn idp(route: &Values, inherited: &Inherited<'_>, cx: &mut Cx<'_>) -> Option<Arc<IdpSettings>> {
    let own = route.is_set("idp_client_id") || route.is_set("idp_client_secret");
    if !own {
        return inherited.idp.clone();
    }
    let url = &inherited.authenticate.url;
    identity::provider(inherited.global, route, url, inherited.secrets, cx).map(Arc::new)
}

fn issuer_format(route: &Values, global: &Values) -> IssuerFormat {
    match route
        .choice("jwt_issuer_format")
        .or_else(|| global.choice("jwt_issuer_format"))
    {
        Some("uri") => IssuerFormat::Uri,
        _ => IssuerFormat::HostOnly,
    }
}

/// The ids of both lists; an empty list filters nothing.
fn groups_filter(route: &Values, global: &Values) -> Option<Arc<[String]>> {
    let lists = [route, global].map(|values| values.texts("jwt_groups_filter"));
    let mut kept = lists.concat();
    kept.sort();
    kept.dedup();
    (!kept.is_empty()).then(|| kept.into())
}

/// Upgrade tokens, lower case, sorted: the route's list in place of the global one, and the two switches.
fn upgrades(route: &Values, global: &Values) -> Vec<String> {
    let list = if route.is_set("allow_upgrades") {
        route
    } else {
        global
    };
    let mut tokens: Vec<String> = list
        .texts("allow_upgrades")
        .iter()
        .map(|token| token.trim().to_lowercase())
        .filter(|token| !token.is_empty())
        .collect();
    // `kubectl exec`, `attach` and `port-forward` need them.
    let kubernetes = upstream_identity::is_kubernetes(route);
    for (switch, token) in [("allow_websockets", "websocket"), ("allow_spdy", "spdy/3.1")] {
        if kubernetes || route.on(switch) {
            tokens.push(token.to_owned());
        }
    }
    tokens.sort();
    tokens.dedup();
    tokens
}

/// Response and idle timeout (spec config.md 9.6); zero is off.
fn timeouts(
    route: &Values,
    global: &Values,
    kind: RouteKind,
    upgrades: &[String],
) -> (Option<Duration>, Option<Duration>) {
    let streaming = kind != RouteKind::Http
        || upgrades.iter().any(|token| token == "websocket")
        || upstream_identity::is_kubernetes(route)
        || route
            .object("mcp")
            .is_some_and(|mcp| mcp.object("server").is_some());
    let pick = |name: &str, default: Option<Duration>| {
        let chosen = if route.is_set(name) {
            route.duration(name)
        } else {
            default
        };
        chosen.filter(|duration| !duration.is_zero())
    };
    let default = global.duration("default_upstream_timeout");
    (
        pick("timeout", default.filter(|_| !streaming)),
        pick("idle_timeout", Some(DEFAULT_IDLE).filter(|_| !streaming)),
    )
}
