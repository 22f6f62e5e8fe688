//! One `Route` message as a route of a file.

use serde_json::{Map, Value, json};

use super::key_pairs::KeyPairs;
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
    if let Err(fault) = put_in(&mut message, &named.key_pairs) {
        faults.push(fault);
    }
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

/// Puts what is named by id into its place; where both are written, that wins.
fn put_in(message: &mut Map<String, Value>, known: &KeyPairs) -> Result<(), Fault> {
    let mut take = |field: &str| match message.remove(field) {
        Some(Value::String(id)) => Ok(Some((field.to_owned(), known.get(field, &id)?))),
        _ => Ok(None),
    };
    let custom_ca = take("tls_custom_ca_key_pair_id")?;
    let client = take("tls_client_key_pair_id")?;
    let downstream = take("tls_downstream_client_ca_key_pair_id")?;
    let kubernetes = take("kubernetes_service_account_token_key_pair_id")?;
    let mut put = |option: &str, value: String| drop(message.insert(option.to_owned(), value.into()));
    if let Some((field, pair)) = custom_ca {
        put("tls_custom_ca", pair.certificate(&field)?);
    }
    if let Some((field, pair)) = client {
        put("tls_client_cert", pair.certificate(&field)?);
        put("tls_client_key", pair.key(&field)?);
    }
    if let Some((field, pair)) = downstream {
        put("tls_downstream_client_ca", pair.certificate(&field)?);
    }
    if let Some((field, pair)) = kubernetes {
        put("kubernetes_service_account_token", pair.token(&field)?);
    }
    Ok(())
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
