//! What this version cannot honour: the start is refused, naming every such key at once. Nothing that guards
//! access is ever silently ignored (spec config.md 20).

use std::sync::Arc;

use super::{Cx, identity};
use crate::diagnostic::{Origin, Place};
use crate::settings::{AuthenticateSettings, RouteKind, RouteSettings, Services};
use crate::spec::decode;
use crate::spec::keys::{self, Effect, Key, Kind, ROUTE};
use crate::spec::node::{Node, Value};
use crate::spec::values::{Item, Val, Values};

const NOT_BUILT: &str = "this option has no effect yet, so the start is refused";
const HOSTED_NOT_BUILT: &str = "signing in through the hosted authenticate service is not built yet";

pub(super) fn run(
    values: &Values,
    services: Services,
    authenticate: &AuthenticateSettings,
    routes: &[Arc<RouteSettings>],
    cx: &mut Cx<'_>,
) {
    level(keys::global(), values, cx);
    runtime_flags(values, cx);
    special(values, cx);
    let given = || values.objects("policy").iter().chain(values.objects("routes"));
    for route in given() {
        cx.of_new_route(route, |cx| {
            level(ROUTE.iter(), route, cx);
            route_kind(route, cx);
            renegotiation(route, cx);
        });
    }
    if services.authenticate {
        sign_in(values, given(), authenticate, routes, cx);
    } else if hosted_elsewhere(services, authenticate) {
        signed_in_by_the_hosted_service(values, given(), routes, cx);
    }
}

/// The same for a route of a record.
pub(super) fn of_record(
    route: &Values,
    settings: &RouteSettings,
    global: &Values,
    (services, authenticate): (Services, &AuthenticateSettings),
    cx: &mut Cx<'_>,
) {
    // The one option that counts for records only.
    level(
        ROUTE.iter().filter(|key| key.name != "regex_priority_order"),
        route,
        cx,
    );
    route_kind(route, cx);
    renegotiation(route, cx);
    if !is_protected(route, settings) {
        return;
    }
    let (why, help) = if hosted_elsewhere(services, authenticate) {
        (
            HOSTED_NOT_BUILT,
            "set `authenticate_service_url`, or open the route",
        )
    } else if services.authenticate
        && authenticate.idp.is_none()
        && global.some_text("idp_provider").is_none()
    {
        let why = "it needs people to sign in, but no identity provider is configured";
        (why, "set `idp_provider`, or open the route")
    } else {
        return;
    };
    cx.sink.refuse(route.place, route.path.clone(), why, help);
}

/// Options of one level, nested ones included.
fn level(table: impl Iterator<Item = &'static Key>, values: &Values, cx: &mut Cx<'_>) {
    for key in table {
        let Some(item) = values
            .item(key.name)
            .filter(|item| item.place.origin != Origin::Default)
        else {
            continue;
        };
        if is_default(key, item) {
            continue;
        }
        match key.effect {
            Effect::NotBuilt => {
                let help = format!("remove `{}`; {}", key.name, describe(key));
                cx.sink.refuse(item.place, values.key(key.name), NOT_BUILT, help);
            }
            Effect::Tuning => {
                let message = "has no effect: there is nothing here that it tunes";
                cx.sink.warn(
                    item.place,
                    values.key(key.name),
                    message,
                    "remove it when you like",
                );
            }
            Effect::Built => {
                if let (Kind::Object(inner), Val::Object(nested)) = (key.kind, &item.value) {
                    level(inner.iter(), nested, cx);
                }
            }
        }
    }
}

fn describe(key: &Key) -> String {
    match key.default {
        Some(default) => format!("only its default ({default}) is possible"),
        None => format!("what it would do: {}", key.meaning),
    }
}

/// Set, but to what holds anyway.
fn is_default(key: &'static Key, item: &Item) -> bool {
    if let Some(default) = key.default {
        let node = Node::new(Value::Text(default.to_owned()), Place::default());
        return decode::decode_text_value(key, &node).is_ok_and(|default| default.same(&item.value));
    }
    if let Val::Choice(member) = item.value {
        return matches!(member, "unknown" | "unspecified" | "default");
    }
    match (key.kind, &item.value) {
        // Options that stand together, and say only what holds anyway. Where an empty object means something, it counts.
        (Kind::Object(inner), Val::Object(nested)) if !key.nullable => only_defaults(inner, nested),
        // Off is what holds while it is not there.
        (Kind::Bool, Val::Bool(on)) => !on,
        _ => !key.nullable && item.value.is_zero(),
    }
}

fn only_defaults(table: &'static [Key], values: &Values) -> bool {
    let set = |key: &Key| {
        values
            .item(key.name)
            .filter(|item| item.place.origin != Origin::Default)
    };
    table
        .iter()
        .all(|key| set(key).is_none_or(|item| is_default(key, item)))
}

fn runtime_flags(values: &Values, cx: &mut Cx<'_>) {
    for (name, value, place) in values.flags("runtime_flags") {
        let Some(flag) = keys::FLAGS
            .iter()
            .find(|flag| flag.name == name && flag.default != *value)
        else {
            continue;
        };
        let key = format!("runtime_flags.{name}");
        match flag.effect {
            // Switching something off that is not there is honoured.
            Effect::NotBuilt if *value => {
                cx.sink.refuse(
                    *place,
                    key,
                    "the feature behind this flag is not built yet",
                    "remove the flag",
                );
            }
            Effect::Tuning => cx.sink.warn(
                *place,
                key,
                "has no effect: there is nothing here that it tunes",
                "",
            ),
            _ => {}
        }
    }
}

/// Options that are built for some of their values only.
fn special(values: &Values, cx: &mut Cx<'_>) {
    let name = "POMERIUM_ZERO_TOKEN";
    if cx.env.get(name).is_some_and(|token| !token.is_empty()) {
        let place = Place {
            origin: Origin::Env(name),
            ..Place::default()
        };
        cx.sink.refuse(
            place,
            "",
            "configuration by the cloud service is not built",
            "unset the variable, use a file",
        );
    }
    let name = "databroker_raft_bind_address";
    if values.is_set(name) {
        cx.sink.refuse(
            values.place(name),
            name,
            "databrokers elect no leader among themselves",
            "remove it and name the leader (`databroker_cluster_leader_id`; a standby is promoted by command), or use \
             `databroker_storage_type: postgres`, over which every databroker is active and none has to take over",
        );
    }
    let name = "idp_provider";
    let provider = values.text(name);
    if matches!(provider, "" | "oidc" | "local") {
        return;
    }
    if identity::KNOWN_PROVIDERS.contains(&provider) {
        let why = format!("the identity provider \"{provider}\" is not built yet");
        let help = "many providers speak plain OpenID Connect: use `idp_provider: oidc` with `idp_provider_url`, \
                    or `idp_provider: local` for built-in users";
        cx.sink.refuse(values.place(name), name, why, help);
    } else {
        let near = keys::nearest(provider, &["oidc", "local"]);
        let help = near.map_or_else(
            || "use oidc or local".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        let message = format!("unknown identity provider \"{provider}\"");
        cx.sink.error_at(
            crate::Stage::ServiceStart,
            values.place(name),
            name,
            message,
            help,
        );
    }
}

fn route_kind(route: &Values, cx: &mut Cx<'_>) {
    let from = route.text("from");
    let scheme = from.split("://").next().unwrap_or_default();
    if scheme.starts_with("tcp") || scheme.starts_with("udp") || scheme == "ssh" {
        let why = format!("{scheme} routes are not built yet");
        cx.sink
            .refuse(route.place("from"), route.key("from"), why, "remove the route");
    }
    for upstream in route.upstreams("to") {
        let scheme = upstream.url.scheme.as_str();
        if matches!(scheme, "tcp" | "udp" | "ssh") {
            let why = format!("{scheme} upstreams are not built yet");
            cx.sink.refuse(
                upstream.place,
                route.key("to"),
                why,
                "use http, https, h2c or a UNIX socket",
            );
        }
    }
}

/// Not a gap that will be closed: TLS 1.3 has no renegotiation, and the library refuses it in TLS 1.2.
fn renegotiation(route: &Values, cx: &mut Cx<'_>) {
    let name = "tls_upstream_allow_renegotiation";
    if route.on(name) {
        let why = "renegotiation is not possible: the TLS library leaves it out for the attacks it allowed";
        let help = "remove it; let the upstream speak TLS 1.3, or ask for the client certificate in the first handshake";
        cx.sink.refuse(route.place(name), route.key(name), why, help);
    }
}

/// People must be able to sign in where a route asks for it.
fn sign_in<'a>(
    values: &Values,
    given: impl Iterator<Item = &'a Values>,
    authenticate: &AuthenticateSettings,
    routes: &[Arc<RouteSettings>],
    cx: &mut Cx<'_>,
) {
    let hosted = identity::is_hosted(authenticate);
    if let Some(idp) = &authenticate.idp {
        check_client(values, idp, cx);
        if hosted {
            refuse_hosted(values, cx);
        }
        return;
    }
    if values.some_text("idp_provider").is_some() {
        return;
    }
    let Some(route) = protected(given, routes, cx) else {
        return;
    };
    let why = format!(
        "{} needs people to sign in, but no identity provider is configured",
        route.text("from")
    );
    let url = if hosted {
        "`authenticate_service_url` and "
    } else {
        ""
    };
    let help = format!(
        "set {url}`idp_provider` (oidc with `idp_provider_url`, `idp_client_id` and `idp_client_secret`; \
         or local for built-in users), or open the route with `allow_public_unauthenticated_access: true`"
    );
    cx.sink.refuse(route.place, route.path.clone(), why, help);
}

/// People are to sign in at the hosted service, and requests of theirs end here.
fn hosted_elsewhere(services: Services, authenticate: &AuthenticateSettings) -> bool {
    !services.authenticate && (services.proxy || services.authorize) && identity::is_hosted(authenticate)
}

/// Where another process signs people in, this one still has to know which.
fn signed_in_by_the_hosted_service<'a>(
    values: &Values,
    given: impl Iterator<Item = &'a Values>,
    routes: &[Arc<RouteSettings>],
    cx: &mut Cx<'_>,
) {
    if protected(given, routes, cx).is_some() {
        refuse_hosted(values, cx);
    }
}

fn refuse_hosted(values: &Values, cx: &mut Cx<'_>) {
    let name = "authenticate_service_url";
    let help = "set `authenticate_service_url` to a host of your own, \
                for instance https://authenticate.example.com";
    cx.sink.refuse(values.place(name), name, HOSTED_NOT_BUILT, help);
}

/// The first new route that people have to sign in for. Each of them is looked at again next time: what is refused now
/// must not be taken over then.
fn protected<'a>(
    given: impl Iterator<Item = &'a Values>,
    routes: &[Arc<RouteSettings>],
    cx: &mut Cx<'_>,
) -> Option<&'a Values> {
    let mut first = None;
    for (route, settings) in given.zip(routes) {
        if route.known.is_none() && is_protected(route, settings) {
            cx.sink.memory.tell(route.fingerprint);
            first = first.or(Some(route));
        }
    }
    first
}

fn is_protected(route: &Values, settings: &RouteSettings) -> bool {
    settings.kind != RouteKind::Ssh && needs_people(route, &settings.policy)
}

/// Whether the way in leads past a sign-in. A route without any rule counts as one whose rule was forgotten.
fn needs_people(route: &Values, policy: &pomerium_policy::Program) -> bool {
    (policy.needs_identity() || policy.is_empty()) && !is_public(route)
}

/// Everybody may, by the switch or by an `accept` that stands alone.
fn is_public(route: &Values) -> bool {
    use pomerium_policy::ppl::{Action, Operator};
    let accepts = |rule: &pomerium_policy::ppl::Rule| {
        rule.action == Action::Allow
            && rule.groups.iter().any(|group| {
                let accept = |criterion: &pomerium_policy::ppl::Criterion| criterion.name == "accept";
                match group.operator {
                    Operator::Or => group.criteria.iter().any(accept),
                    Operator::And => !group.criteria.is_empty() && group.criteria.iter().all(accept),
                    _ => false,
                }
            })
    };
    route.on("allow_public_unauthenticated_access")
        || route
            .policy("policy")
            .is_some_and(|(policy, _)| policy.rules.iter().any(accepts))
}

fn check_client(values: &Values, idp: &crate::settings::IdpSettings, cx: &mut Cx<'_>) {
    let mut missing = |name: &str, message: &str| {
        let help = "it comes from the identity provider, where this installation is registered as a client";
        cx.sink.error_at(
            crate::Stage::ServiceStart,
            values.place("idp_provider"),
            name,
            message,
            help,
        );
    };
    if idp.issuer.is_empty() {
        missing("idp_provider_url", "missing provider url");
    }
    if idp.client_id.is_empty() {
        missing("idp_client_id", "missing client id");
    }
}
