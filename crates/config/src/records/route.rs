//! One `Route` message as a route of a file.

use serde_json::{Map, Value, json};

use super::key_pairs::{KeyPair, KeyPairs};
use super::settings::base64_of_pem;
use super::{Fault, Named, RouteRecord, policies};
use crate::diagnostic::{Origin, Place};
use crate::spec::keys::ROUTE;
use crate::spec::node::Node;

/// What the service that wrote the record adds for readers of it.
const NOTES: &[&str] = &[
    "namespace_id",
    "originator_id",
    "created_at",
    "modified_at",
    "enforced_policies",
    "assigned_policies",
    "namespace_name",
    // Names metrics only, which carry the name of the route.
    "stat_name",
];

pub(super) fn read(
    record: String,
    id: Option<String>,
    mut message: Map<String, Value>,
    named: &Named,
) -> RouteRecord {
    let mut faults = Vec::new();
    let own_id = message.remove("id").and_then(|id| id.as_str().map(str::to_owned));
    message.retain(|name, _| !NOTES.contains(&name.as_str()));
    refuse_local(&mut message, &mut faults);
    put_in(&mut message, &named.key_pairs, &mut faults);
    weigh(&mut message);
    for bundle in ["tls_custom_ca", "tls_downstream_client_ca"] {
        if let Some(Value::String(text)) = message.get_mut(bundle) {
            *text = base64_of_pem(std::mem::take(text));
        }
    }
    for list in ["allow_upgrades", "idp_access_token_allowed_audiences"] {
        if let Some(values) = message.get_mut(list) {
            *values = values.get("values").cloned().unwrap_or_else(|| json!([]));
        }
    }
    if message
        .get("redirect")
        .is_some_and(|redirect| redirect == &json!({}))
    {
        message.remove("redirect");
    }
    match policies::take(&mut message, &named.policies) {
        Ok(found) => {
            let lists = [("policy", found.rules), ("sub_policies", found.policies)];
            for (key, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
                message.insert(key.into(), Value::Array(items));
            }
        }
        Err(why) => faults.push(Fault::whole(why)),
    }
    message.retain(|name, _| {
        let known = ROUTE.iter().any(|key| key.name == name);
        if !known {
            faults.push(Fault::of(name, "it has no effect yet; remove it"));
        }
        known
    });
    let place = Place {
        origin: Origin::Record,
        ..Place::default()
    };
    RouteRecord {
        record,
        id: own_id.or(id).filter(|id| !id.is_empty()),
        node: Node::from_json(&Value::Object(message), place),
        faults,
    }
}

/// Whoever may write records must not be able to make this host read its files or talk to its sockets
/// (spec config.md 20).
fn refuse_local(message: &mut Map<String, Value>, faults: &mut Vec<Fault>) {
    message.retain(|name, _| {
        let file = name.ends_with("_file");
        if file {
            let why = "it names a file of this host: that is for the local configuration file";
            faults.push(Fault::of(name, why));
        }
        !file
    });
    let is_socket = |to: &Value| {
        let scheme = to.as_str().and_then(|to| to.split_once("://"));
        scheme.is_some_and(|(scheme, _)| scheme.to_ascii_lowercase().ends_with("unix"))
    };
    let sockets = message.get("to").and_then(Value::as_array);
    if sockets.is_some_and(|to| to.iter().any(is_socket)) {
        let why = "it names a socket of this host: that is for the local configuration file";
        faults.push(Fault::of("to", why));
    }
}

/// What is taken out of a key pair for the field that names it.
type Part = fn(&KeyPair, &str) -> Result<String, Fault>;

/// The fields that name a key pair, and the options that its parts are for.
const NAMED: [(&str, &[(&str, Part)]); 4] = [
    (
        "tls_custom_ca_key_pair_id",
        &[("tls_custom_ca", KeyPair::certificate)],
    ),
    (
        "tls_client_key_pair_id",
        &[
            ("tls_client_cert", KeyPair::certificate),
            ("tls_client_key", KeyPair::key),
        ],
    ),
    (
        "tls_downstream_client_ca_key_pair_id",
        &[("tls_downstream_client_ca", KeyPair::certificate)],
    ),
    (
        "kubernetes_service_account_token_key_pair_id",
        &[("kubernetes_service_account_token", KeyPair::token)],
    ),
];

/// Puts what is named by id into its place; where both are written, that wins. No such field is left over, so that each is
/// told what is wrong with itself.
fn put_in(message: &mut Map<String, Value>, known: &KeyPairs, faults: &mut Vec<Fault>) {
    for (field, parts) in NAMED {
        let Some(Value::String(id)) = message.remove(field) else {
            continue;
        };
        let pair = match known.get(field, &id) {
            Ok(pair) => pair,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        for (option, part) in parts {
            match part(pair, field) {
                Ok(value) => drop(message.insert((*option).to_owned(), value.into())),
                Err(fault) => faults.push(fault),
            }
        }
    }
}

/// `to` and its weights stand apart in the message; in a file a weight follows its URL. Weights that do not
/// fit are ignored.
fn weigh(message: &mut Map<String, Value>) {
    let weights = message.remove("load_balancing_weights").unwrap_or_default();
    let (Some(Value::Array(to)), Value::Array(weights)) = (message.get_mut("to"), weights) else {
        return;
    };
    if to.len() != weights.len() {
        return;
    }
    for (to, weight) in to.iter_mut().zip(weights) {
        if let Some(url) = to.as_str() {
            *to = format!("{url},{weight}").into();
        }
    }
}
