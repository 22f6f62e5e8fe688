//! Lists of routes: maps in a file, base64 of YAML in the environment.

use super::super::keys::ROUTE;
use super::super::node::{Node, Value};
use super::super::sink::Sink;
use super::super::values::{Val, Values};
use super::super::{base64_std, format};
use super::{map_only, objects, options};
use crate::diagnostic::{Origin, Place};

pub(super) fn decode(node: &Node, path: &str, sink: &mut Sink) -> Option<Val> {
    let decoded;
    let node = match &node.value {
        Value::Text(text) if !text.is_empty() => match decode_routes(text, node.place) {
            Ok(tree) => {
                decoded = tree;
                &decoded
            }
            Err(message) => {
                let help = "write the list of routes as YAML, then base64 of the whole";
                sink.error(node.place, path, message, help);
                return None;
            }
        },
        _ => node,
    };
    if let Value::List(items) = &node.value
        && let Some(rules) = items
            .iter()
            .find(|item| item.get("allow").or(item.get("deny")).is_some())
    {
        let help = "rules belong into the `policy` of a route; at the top level `policy` is a list of routes";
        sink.error(rules.place, path, "expected routes, found policy rules", help);
        return None;
    }
    routes(node, path, sink).map(Val::Objects)
}

/// Each route, unless the last load has read the same.
fn routes(node: &Node, path: &str, sink: &mut Sink) -> Option<Vec<Values>> {
    let Value::List(items) = &node.value else {
        return objects(ROUTE, node, path, sink);
    };
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let fingerprint = item.fingerprint();
        if let Some(settings) = sink.memory.recall(fingerprint) {
            list.push(Values::known(&path, item.place, fingerprint, settings));
            continue;
        }
        let before = sink.count();
        if map_only(item, &path, sink).is_some() {
            let mut values = options(ROUTE.iter(), item, &path, sink);
            values.fingerprint = fingerprint;
            list.push(values);
        }
        if sink.count() != before {
            sink.memory.tell(fingerprint);
        }
    }
    (list.len() == items.len()).then_some(list)
}

/// Routes in an environment variable: standard base64 of a YAML list.
fn decode_routes(text: &str, place: Place) -> Result<Node, String> {
    let parts = text.split(',').count();
    if parts > 1 {
        return Err(format!("base64 policy data: expecting 1, got {parts}"));
    }
    let bytes = base64_std(text).map_err(|error| format!("base64 decoding policy data: {error}"))?;
    let bad_yaml = |error: &str| format!("parsing base64-encoded policy data as yaml: {error}");
    let yaml = String::from_utf8(bytes).map_err(|_| bad_yaml("it is not UTF-8"))?;
    let tree = format::parse_yaml(&yaml)
        .map_err(|error| bad_yaml(&format!("line {}: {}", error.place.line, error.message)))?;
    if !matches!(tree.value, Value::List(_)) {
        return Err(bad_yaml("a list of routes is expected"));
    }
    Ok(match place.origin {
        Origin::Env(name) => tree.into_env(name),
        _ => tree,
    })
}
