//! The value behind the name of an expectation: an option as decoded (`cookie_expire`,
//! `routes[0].set_request_headers`), or what follows from the options (`….effective`, `routes[0].id`).

use serde_json::{Map, Value, json};

use crate::settings::{Codec, HostMatch, PathRewrite, RouteSettings, SameSite, Settings};
use crate::spec::values::{Val, Values};
use crate::spec::{duration, keys, services};

/// The value, or nothing when the name is not understood.
pub(super) fn find(values: &Values, settings: &Settings, name: &str) -> Option<Value> {
    if let Some(option) = name.strip_suffix(".effective") {
        return route(values, settings, name).or_else(|| effective(values, settings, option));
    }
    route(values, settings, name)
        .or_else(|| derived(values, settings, name))
        .or_else(|| decoded(values, name))
}

fn effective(values: &Values, settings: &Settings, name: &str) -> Option<Value> {
    let services = settings.services;
    Some(match name {
        "grpc_address" => json!(services::grpc_address(values, services)),
        "grpc_insecure" => json!(services::grpc_insecure(values, services)),
        "authorize_service_url" => json!(services::service_urls(values, "authorize_service")),
        "databroker_service_url" => json!(services::service_urls(values, "databroker_service")),
        "authenticate_service_url" => json!(settings.authenticate.url.url()),
        "codec_type" => json!(match settings.listener.codec {
            Codec::Auto => "auto",
            Codec::Http1 => "http1",
            Codec::Http2 => "http2",
            Codec::Http3 => "http3",
        }),
        "cookie_same_site" => json!(settings.cookie.same_site.map(|same_site| match same_site {
            SameSite::Strict => "strict",
            SameSite::Lax => "lax",
            SameSite::None => "none",
        })),
        "response_headers" => pairs(&settings.response_headers),
        "downstream_mtls.enforcement" => {
            let given = values
                .object("downstream_mtls")
                .and_then(|mtls| mtls.choice("enforcement"));
            json!(
                given
                    .filter(|mode| *mode != "unknown")
                    .unwrap_or("policy_with_default_deny")
            )
        }
        "downstream_mtls.max_verify_depth" => {
            let given = values
                .object("downstream_mtls")
                .and_then(|mtls| mtls.int("max_verify_depth"));
            json!(given.unwrap_or(1))
        }
        _ => return None,
    })
}

fn derived(values: &Values, settings: &Settings, name: &str) -> Option<Value> {
    let services = settings.services;
    Some(match name {
        "is_all" => json!(services.all_in_one()),
        "main_listener" => json!(services::main_listener(services)),
        "grpc_listener" => json!(services::grpc_listener(services)),
        "http_redirect_addr" => json!(settings.listener.redirect_address),
        "shared_secret.decoded_len" => json!(settings.secrets.shared.expose().len()),
        "shared_secret" if !values.is_set(name) => {
            let kept = crate::settings::resolve::generated::read(&settings.data_dir);
            let kept = kept
                .ok()
                .flatten()
                .is_some_and(|key| key == settings.secrets.shared.expose());
            json!(if kept { "generated" } else { "not kept" })
        }
        "fallback_certificate" => json!(if settings.fallback_certificate {
            "self-signed *"
        } else {
            "none"
        }),
        "all_routes.from" => {
            json!(
                settings
                    .routes
                    .iter()
                    .map(|route| &*route.from)
                    .collect::<Vec<_>>()
            )
        }
        _ => {
            return name
                .strip_prefix("runtime_flags.")
                .and_then(|flag| runtime_flag(values, flag));
        }
    })
}

fn runtime_flag(values: &Values, name: &str) -> Option<Value> {
    let known = keys::FLAGS.iter().any(|flag| flag.name == name);
    known.then(|| json!(crate::settings::resolve::flag(values, name)))
}

/// `routes[0].…` and `policy[0].…`
fn route(values: &Values, settings: &Settings, name: &str) -> Option<Value> {
    let (place, option) = name.split_once("].")?;
    let (list, index) = place.split_once('[')?;
    let index: usize = index.parse().ok()?;
    let before = match list {
        "policy" => 0,
        "routes" => values.objects("policy").len(),
        _ => return None,
    };
    let given = values.objects(list).get(index)?;
    let resolved = settings.routes.get(before + index)?;
    of_route(given, resolved, option).or_else(|| decoded(given, option))
}

fn of_route(given: &Values, route: &RouteSettings, option: &str) -> Option<Value> {
    let off_is_zero = |timeout: Option<std::time::Duration>| {
        let nanos = timeout.map_or(0, |timeout| i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
        json!(duration::format(nanos))
    };
    Some(match option {
        "id" => json!(route.id),
        "cluster" => json!(route.cluster()),
        "match_hosts" => match &route.hosts {
            HostMatch::Exact { domains, .. } => json!(domains.iter().collect::<Vec<_>>()),
            HostMatch::Wildcard { pattern, .. } => json!([pattern]),
        },
        "depends_on" => json!(route.depends_on),
        "to" => json!(
            given
                .upstreams("to")
                .iter()
                .map(|upstream| upstream.text.as_str())
                .collect::<Vec<_>>()
        ),
        "to_weights" => {
            json!(
                given
                    .upstreams("to")
                    .iter()
                    .filter_map(|upstream| upstream.weight)
                    .collect::<Vec<_>>()
            )
        }
        "websocket.effective" => json!(route.upgrades.iter().any(|token| token == "websocket")),
        "timeout.effective" => off_is_zero(route.timeout),
        "idle_timeout.effective" => off_is_zero(route.idle_timeout),
        "pass_identity_headers.effective" => json!(route.pass_identity_headers),
        "prefix_rewrite.effective" => match route.path_rewrite.as_deref() {
            Some(PathRewrite::Prefix(prefix)) => json!(prefix),
            _ => Value::Null,
        },
        _ => return None,
    })
}

/// An option as it was decoded; `.len`, `.keys` and `.nanoseconds` tell of it.
fn decoded(values: &Values, name: &str) -> Option<Value> {
    if let Some(item) = values.item(name) {
        return Some(to_json(&item.value));
    }
    let (outer, inner) = name.split_once('.')?;
    let value = &values.item(outer)?.value;
    Some(match (value, inner) {
        (Val::Objects(items), "len") => json!(items.len()),
        (Val::Texts(items), "len") => json!(items.len()),
        (Val::Named(items), "keys") => json!(items.iter().map(|(name, _)| name).collect::<Vec<_>>()),
        (Val::Duration(nanos), "nanoseconds") => json!(nanos),
        (Val::Object(nested), _) => return decoded(nested, inner),
        _ => return None,
    })
}

fn to_json(value: &Val) -> Value {
    match value {
        Val::Bool(value) => json!(value),
        Val::Text(text) => json!(text),
        Val::Int(number) => json!(number),
        Val::Float(number) => json!(number),
        Val::Duration(nanos) => json!(duration::format(*nanos)),
        Val::Texts(items) => json!(items),
        Val::Pairs(items) => pairs(items),
        Val::Flags(items) => Value::Object(
            items
                .iter()
                .map(|(name, value, _)| (name.clone(), json!(value)))
                .collect(),
        ),
        Val::Choice(member) => json!(member),
        Val::Claims(items) => Value::Object(
            items
                .iter()
                .map(|(name, values)| (name.clone(), json!(values)))
                .collect(),
        ),
        Val::Policy(policy, _) => serde_json::to_value(policy).unwrap_or(Value::Null),
        Val::Free(node) => node.to_json(),
        Val::Upstreams(items) => json!(items.iter().map(|upstream| &upstream.text).collect::<Vec<_>>()),
        Val::Object(_) | Val::Objects(_) | Val::Named(_) => Value::String("nested options".into()),
    }
}

fn pairs(items: &[(String, String)]) -> Value {
    Value::Object(
        items
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect::<Map<_, _>>(),
    )
}
