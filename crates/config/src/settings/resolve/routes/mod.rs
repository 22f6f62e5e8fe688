//! Routes: what matches, where it goes, who may (spec config.md 9).

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use pomerium_policy::ScriptData;

use self::options::Alike;
use super::{Cx, balance, headers};
use crate::diagnostic::Stage;
use crate::settings::{
    Action, AuthenticateSettings, Balance, CircuitBreakers, IdpSettings, Origin, RateLimit, RouteKind,
    RouteSettings, RuntimeFlags, Secrets, Services, UpstreamTls,
};
use crate::spec::values::Values;

mod access;
mod action;
pub(crate) mod from;
mod id;
mod options;
mod records;
mod rego;
mod rewrite;
mod sub_policies;
mod tls;
mod upstream_identity;

/// What the routes inherit.
struct Inherited<'a> {
    global: &'a Values,
    flags: &'a RuntimeFlags,
    services: Services,
    authenticate: &'a AuthenticateSettings,
    /// Where people sign in, if that is another process.
    sign_in: Option<&'a Origin>,
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
    alike: Alike,
}

/// All routes in order of evaluation: `policy` first, then `routes`.
pub(super) fn resolve(
    values: &Values,
    (services, flags): (Services, &RuntimeFlags),
    authenticate: &AuthenticateSettings,
    secrets: &Secrets,
    (rate_limit, deny_without_certificate): (Option<RateLimit>, bool),
    cx: &mut Cx<'_>,
) -> Vec<Arc<RouteSettings>> {
    let response_headers = headers::unreported(values);
    let breakers = balance::breakers(values, CircuitBreakers::default());
    let inherited = Inherited {
        plain: Plain {
            headers: headers::of_route(&response_headers, &Values::default(), cx).into(),
            tls: Arc::default(),
            balance: Arc::new(Balance {
                breakers,
                ..Balance::default()
            }),
            alike: Alike::default(),
        },
        global: values,
        flags,
        services,
        authenticate,
        sign_in: (services.proxy && !services.authenticate).then_some(&authenticate.url),
        idp: shared_idp(authenticate, cx),
        secrets,
        response_headers,
        rate_limit,
        deny_without_certificate,
        script_data: rego::data(values),
        breakers,
    };
    let mut routes: Vec<Arc<RouteSettings>> = Vec::new();
    let mut clusters: HashMap<String, &str> = HashMap::new();
    for route in values.objects("policy").iter().chain(values.objects("routes")) {
        let Some(settings) = known_or_new(route, &inherited, cx) else {
            continue;
        };
        // Only what has upstreams has a cluster, whose name must be its own.
        if matches!(settings.action, Action::Forward(_)) {
            let cluster = settings.cluster();
            if let Some(earlier) = clusters.insert(cluster.clone(), &route.path) {
                let message = format!("route {cluster} is not unique: {earlier} is the same");
                let help =
                    "remove one of them, or give them different names; merge their rules if both count";
                cx.sink
                    .error_at(Stage::DataPlane, route.place, route.path.clone(), message, help);
            }
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

fn one(route: &Values, inherited: &Inherited<'_>, cx: &mut Cx<'_>) -> Option<RouteSettings> {
    let from = from::resolve(
        route,
        inherited.flags.match_any_incoming_port,
        inherited.global.on("insecure_server"),
        cx,
    );
    let action = action::resolve(route, cx);
    let leads_to_sign_in = from.as_ref().is_some_and(|from| {
        let reaches = |origin: &Origin| from.kind == RouteKind::Http && from.hosts.reaches(origin);
        inherited.sign_in.is_some_and(reaches)
    });
    let deny_without_certificate = inherited.deny_without_certificate;
    let access = match leads_to_sign_in {
        true => access::open(route, deny_without_certificate, cx),
        false => access::resolve(route, deny_without_certificate, &inherited.script_data, cx),
    };
    let upstream_tls = tls::resolve(route, cx);
    let kubernetes_token = upstream_identity::kubernetes(route, cx);
    let (from, action) = (from?, action?);
    if access.program.needs_identity() {
        from::warn_of_open_end(route, &from, cx);
    }
    let read = options::Read {
        kind: from.kind,
        leads_to_sign_in,
        depends_on: access.depends_on,
        told_policies: (!access.told.is_empty()).then(|| access.told.into()),
        upstream_tls,
        kubernetes_token,
    };
    let options = options::resolve(route, read, inherited, cx);
    Some(RouteSettings {
        id: id::route_id(route).as_str().into(),
        name: route.text("name").into(),
        record: None,
        from: route.text("from").into(),
        kind: from.kind,
        hosts: from.hosts,
        path: rewrite::matcher(route, cx),
        path_rewrite: rewrite::path(route, &action, cx).map(Box::new),
        action,
        policy: match cx.guard_lost {
            true => pomerium_policy::Program::deny_all(),
            false => access.program,
        },
        options: inherited.plain.alike.share(options),
    })
}
