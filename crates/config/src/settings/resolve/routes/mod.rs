//! Routes: what matches, where it goes, who may (spec config.md 9).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use pomerium_policy::ScriptData;

use super::{Cx, balance, headers, mtls, rate_limit};
use crate::diagnostic::Stage;
use crate::settings::{
    AuthenticateSettings, Balance, CircuitBreakers, IdpSettings, IssuerFormat, RateLimit, RouteKind,
    RouteSettings, RuntimeFlags, Secrets, UpstreamTls,
};
use crate::spec::values::Values;

mod access;
mod action;
pub(crate) mod from;
mod id;
mod records;
mod rego;
mod rewrite;
mod tls;
mod upstream_identity;

/// No bytes either way for this long ends a request, where the route says nothing (proxy.md 5).
const DEFAULT_IDLE: Duration = Duration::from_secs(300);

/// What the routes inherit.
struct Inherited<'a> {
    global: &'a Values,
    flags: &'a RuntimeFlags,
    authenticate: &'a AuthenticateSettings,
    idp: Option<Arc<IdpSettings>>,
    secrets: &'a Secrets,
    response_headers: Vec<(String, String)>,
    rate_limit: Option<RateLimit>,
    deny_without_certificate: bool,
    script_data: ScriptData,
    breakers: CircuitBreakers,
    plain: Plain,
}

/// What routes share that say nothing of their own.
struct Plain {
    headers: Arc<[(HeaderName, HeaderValue)]>,
    tls: Arc<UpstreamTls>,
    balance: Arc<Balance>,
}

/// All routes in order of evaluation: `policy` first, then `routes`.
pub(super) fn resolve(
    values: &Values,
    flags: &RuntimeFlags,
    authenticate: &AuthenticateSettings,
    secrets: &Secrets,
    (rate_limit, deny_without_certificate): (Option<RateLimit>, bool),
    cx: &mut Cx<'_>,
) -> Vec<Arc<RouteSettings>> {
    let response_headers = global_response_headers(values);
    let breakers = balance::breakers(values, CircuitBreakers::default());
    let inherited = Inherited {
        plain: Plain {
            headers: headers::of_route(&response_headers, &Values::default(), cx).into(),
            tls: Arc::default(),
            balance: Arc::new(Balance {
                breakers,
                ..Balance::default()
            }),
        },
        global: values,
        flags,
        authenticate,
        idp: shared_idp(authenticate, cx),
        secrets,
        response_headers,
        rate_limit,
        deny_without_certificate,
        script_data: rego::data(values),
        breakers,
    };
    let mut routes: Vec<Arc<RouteSettings>> = Vec::new();
    let mut clusters: HashMap<String, String> = HashMap::new();
    for route in values.objects("policy").iter().chain(values.objects("routes")) {
        let Some(settings) = known_or_new(route, &inherited, cx) else {
            continue;
        };
        if let Some(earlier) = clusters.insert(settings.cluster.clone(), route.path.clone()) {
            let message = format!("route {} is not unique: {earlier} is the same", settings.cluster);
            let help = "remove one of them, or give them different names; merge their rules if both count";
            cx.sink
                .error_at(Stage::DataPlane, route.place, route.path.clone(), message, help);
        }
        routes.push(settings);
    }
    records::append(&mut routes, &inherited, cx);
    routes
}

/// A route of the last load, or a new one; a new one is remembered when there is nothing to say about it and it
/// read no file.
fn known_or_new(route: &Values, inherited: &Inherited<'_>, cx: &mut Cx<'_>) -> Option<Arc<RouteSettings>> {
    if let Some(known) = &route.known {
        cx.sink.memory.learn(route.fingerprint, known);
        return Some(known.clone());
    }
    let before = (cx.sink.count(), cx.watched.len());
    let settings = Arc::new(one(route, inherited, cx)?);
    if (cx.sink.count(), cx.watched.len()) == before {
        cx.sink.memory.learn(route.fingerprint, &settings);
    }
    Some(settings)
}

/// The provider of the last load where it is the same, so that routes stay the same objects.
fn shared_idp(authenticate: &AuthenticateSettings, cx: &Cx<'_>) -> Option<Arc<IdpSettings>> {
    let idp = authenticate.idp.as_ref()?;
    let known = cx.sink.memory.idp().filter(|known| ***known == *idp);
    Some(known.cloned().unwrap_or_else(|| Arc::new(idp.clone())))
}

/// The global map without reporting its mistakes again.
fn global_response_headers(values: &Values) -> Vec<(String, String)> {
    if !values.is_set("set_response_headers") {
        return headers::defaults(values);
    }
    let given = values.pairs("set_response_headers");
    if given.iter().any(|(name, _)| name.eq_ignore_ascii_case("disable")) {
        Vec::new()
    } else {
        given.to_vec()
    }
}

fn one(route: &Values, inherited: &Inherited<'_>, cx: &mut Cx<'_>) -> Option<RouteSettings> {
    let from = from::resolve(
        route,
        inherited.flags.match_any_incoming_port,
        inherited.global.on("insecure_server"),
        cx,
    );
    let action = action::resolve(route, cx);
    let access = access::resolve(
        route,
        inherited.deny_without_certificate,
        &inherited.script_data,
        cx,
    );
    let upstream_tls = tls::resolve(route, cx);
    let kubernetes_token = upstream_identity::kubernetes(route, cx);
    let upgrades = upgrades(route, inherited.global);
    let (from, action) = (from?, action?);
    let id = id::route_id(route);
    let name = route.text("name").to_owned();
    let prefix = if name.is_empty() { "route" } else { &name };
    let (timeout, idle_timeout) = timeouts(route, inherited.global, from.kind, &upgrades);
    let global = inherited.global;
    Some(RouteSettings {
        cluster: format!("{prefix}-{id}"),
        id,
        name,
        description: route.text("description").to_owned(),
        logo_url: route.text("logo_url").to_owned(),
        from: route.text("from").to_owned(),
        kind: from.kind,
        hosts: from.hosts,
        path: rewrite::matcher(route, cx),
        path_rewrite: rewrite::path(route, &action, cx),
        host_rewrite: rewrite::host(route, cx),
        action,
        policy: Arc::new(access.program),
        show_error_details: route.on("show_error_details"),
        depends_on: access.depends_on,
        idp: idp(route, inherited, cx),
        set_request_headers: rewrite::set_request_headers(route, cx),
        remove_request_headers: rewrite::remove_request_headers(route, cx),
        set_response_headers: if route.is_set("set_response_headers") {
            headers::of_route(&inherited.response_headers, route, cx).into()
        } else {
            inherited.plain.headers.clone()
        },
        rewrite_response_headers: rewrite::response_prefixes(route, cx),
        pass_identity_headers: route
            .bool("pass_identity_headers")
            .or_else(|| global.bool("pass_identity_headers"))
            .unwrap_or(false),
        jwt_issuer_format: issuer_format(route, global),
        groups_filter: groups_filter(route, global),
        kubernetes_token,
        google_audience: upstream_identity::google_audience(route),
        upgrades,
        timeout,
        idle_timeout,
        upstream_tls: match upstream_tls.is_plain() {
            true => inherited.plain.tls.clone(),
            false => Arc::new(upstream_tls),
        },
        balance: match balance::resolve(route, inherited.breakers, cx) {
            same if same == *inherited.plain.balance => inherited.plain.balance.clone(),
            own => Arc::new(own),
        },
        rate_limit: rate_limit::resolve(route, cx).or(inherited.rate_limit),
        downstream_server_name: route
            .some_text("tls_downstream_server_name")
            .map(str::to_lowercase),
        downstream_ca: mtls::of_route(route, cx),
    })
}

fn idp(route: &Values, inherited: &Inherited<'_>, cx: &mut Cx<'_>) -> Option<Arc<IdpSettings>> {
    let own = route.is_set("idp_client_id") || route.is_set("idp_client_secret");
    if !own {
        return inherited.idp.clone();
    }
    let url = &inherited.authenticate.url;
    super::identity::provider(inherited.global, route, url, inherited.secrets, cx).map(Arc::new)
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
