//! Maps: headers, switches, claims (spec config.md 4.3, 8.8).

use std::borrow::Cow;

use super::super::keys::Key;
use super::super::node::{Node, Value};
use super::super::scalar;
use super::structured;
use crate::diagnostic::Place;

pub(super) fn text_map(key: &Key, node: &Node) -> Result<Vec<(String, String)>, String> {
    let tree = match &node.value {
        // `X-A: 1,X-B:2` is a map to YAML, of one header.
        Value::Text(text) if is_headers(key) && !text.trim_start().starts_with('{') => Cow::Borrowed(node),
        _ => structured(node),
    };
    match (&tree.value, &node.value) {
        (Value::Map(entries), _) => entries
            .iter()
            .filter(|entry| !entry.node.is_null())
            .map(|entry| {
                let text = scalar::text(&entry.node)
                    .map_err(|error| format!("header {} failed to parse: {error}", entry.key));
                Ok((entry.key.clone(), text?))
            })
            .collect(),
        (_, Value::Text(text)) if text.is_empty() => Ok(Vec::new()),
        (_, Value::Text(text)) if is_headers(key) => text
            .split(',')
            .map(|item| {
                item.split_once(':')
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| format!("failed to decode headers from '{text}'")),
        _ if is_headers(key) => {
            let reason = format!("header {} failed to parse: expected a map", key.name);
            Err(format!(
                "config: failed to parse headers: {reason}, found {}",
                node.kind()
            ))
        }
        _ => Err(format!("expected a map, found {}", node.kind())),
    }
}

/// The headers of every response, which have an environment variable of their own form.
fn is_headers(key: &Key) -> bool {
    key.env == Some("HEADERS")
}

pub(super) fn bool_map(node: &Node) -> Result<Vec<(String, bool, Place)>, String> {
    let Value::Map(entries) = &node.value else {
        return Err(format!(
            "expected a map of name and true or false, found {}",
            node.kind()
        ));
    };
    entries
        .iter()
        .filter(|entry| !entry.node.is_null())
        .map(|entry| {
            let value = scalar::boolean(&entry.node).map_err(|error| format!("{}: {error}", entry.key))?;
            Ok((entry.key.clone(), value, entry.place))
        })
        .collect()
}

/// Header and claim: a map says both, a list or text names claims for `x-pomerium-claim-…`.
pub(super) fn claim_headers(node: &Node) -> Result<Vec<(String, String)>, String> {
    let default_header = |claim: &str| (format!("x-pomerium-claim-{claim}"), claim.to_owned());
    let pairs: Vec<(String, String)> = match &node.value {
        Value::Map(entries) => entries
            .iter()
            .map(|entry| Ok((entry.key.clone(), scalar::text(&entry.node)?)))
            .collect::<Result<_, String>>()?,
        Value::List(items) => items
            .iter()
            .map(|item| match &item.value {
                Value::Map(_) | Value::List(_) => Err("found nested object in array of values".to_owned()),
                _ => scalar::text(item).map(|claim| default_header(&claim)),
            })
            .collect::<Result<_, String>>()?,
        Value::Text(text) => text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|claim| !claim.is_empty())
            .map(default_header)
            .collect(),
        _ => {
            return Err(format!(
                "expected a map or a list of claims, found {}",
                node.kind()
            ));
        }
    };
    match pairs
        .iter()
        .find(|(header, _)| http::HeaderName::from_bytes(header.as_bytes()).is_err())
    {
        Some((header, _)) => Err(format!("\"{header}\" has invalid header name")),
        None => Ok(pairs),
    }
}

/// Claim and accepted values; nested maps become dotted names, a single value counts as a list of one.
pub(super) fn claim_values(node: &Node) -> Result<Vec<(String, Vec<serde_json::Value>)>, String> {
    let tree = structured(node);
    let Value::Map(entries) = &tree.value else {
        return Err(format!(
            "expected a map of claim and values, found {}",
            node.kind()
        ));
    };
    let mut claims = Vec::new();
    for entry in entries {
        flatten(&entry.key, &entry.node, &mut claims);
    }
    claims.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(claims)
}

fn flatten(name: &str, node: &Node, claims: &mut Vec<(String, Vec<serde_json::Value>)>) {
    match &node.value {
        Value::Null => {}
        Value::Map(entries) => {
            for entry in entries {
                flatten(&format!("{name}.{}", entry.key), &entry.node, claims);
            }
        }
        Value::List(items) => claims.push((name.to_owned(), items.iter().map(Node::to_json).collect())),
        _ => claims.push((name.to_owned(), vec![node.to_json()])),
    }
}
