//! The value behind the name of an expectation: an option as decoded (`cookie_expire`,
//! `routes[0].set_request_headers`), or what follows from the options (`….effective`, `routes[0].id`).

mod decoded;
mod effective;

use serde_json::{Map, Value, json};

use crate::settings::{HostMatch, RouteSettings, Settings};
use crate::spec::values::Values;
use crate::spec::{keys, services};

/// The value, or nothing when the name is not understood.
pub(super) fn find(values: &Values, settings: &Settings, name: &str) -> Option<Value> {
    if let Some(found) = route(values, settings, name) {
        return Some(found);
    }
    match name.strip_suffix(".effective") {
        Some(option) => {
            effective::global(values, settings, option).or_else(|| decoded::option(values, option))
        }
        None => derived(values, settings, name).or_else(|| decoded::option(values, name)),
    }
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
    match option.strip_suffix(".effective") {
        Some(option) => {
            effective::of_route(values, given, resolved, option).or_else(|| decoded::option(given, option))
        }
        None => of_route(given, resolved, option).or_else(|| decoded::option(given, option)),
    }
}

fn of_route(given: &Values, route: &RouteSettings, option: &str) -> Option<Value> {
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
        _ => return None,
    })
}

fn pairs(items: &[(String, String)]) -> Value {
    Value::Object(
        items
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect::<Map<_, _>>(),
    )
}
