//! One `Route` message as a route of a file.

use serde_json::{Map, Value, json};

use super::{Policies, RouteRecord, policies};
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
    policies: &Policies,
) -> RouteRecord {
    let mut faults = Vec::new();
    let own_id = message.remove("id").and_then(|id| id.as_str().map(str::to_owned));
    message.retain(|name, _| !NOTES.contains(&name.as_str()));
    refuse_local(&mut message, &mut faults);
    weigh(&mut message);
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
    match policies::merge(&mut message, policies) {
        Ok(Some(merged)) => {
            message.insert("policy".into(), Value::Array(merged.rules));
            if !merged.scripts.is_empty() {
                message.insert("rego".into(), Value::Array(merged.scripts));
            }
        }
        Ok(None) => {}
        Err(why) => faults.push(why),
    }
    message.retain(|name, _| {
        let known = ROUTE.iter().any(|key| key.name == name);
        if !known {
            faults.push(format!("`{name}` has no effect yet; remove it"));
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
fn refuse_local(message: &mut Map<String, Value>, faults: &mut Vec<String>) {
    message.retain(|name, _| {
        let file = name.ends_with("_file");
        if file {
            faults.push(format!(
                "`{name}` names a file of this host: that is for the local configuration file"
            ));
        }
        !file
    });
    let is_socket = |to: &Value| {
        let scheme = to.as_str().and_then(|to| to.split_once("://"));
        scheme.is_some_and(|(scheme, _)| scheme.to_ascii_lowercase().ends_with("unix"))
    };
    let sockets = message.get("to").and_then(Value::as_array);
    if sockets.is_some_and(|to| to.iter().any(is_socket)) {
        faults.push("`to` names a socket of this host: that is for the local configuration file".into());
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
