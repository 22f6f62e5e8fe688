//! Options as they were decoded, and the parts of those that have parts: `redirect.response_code`,
//! `databroker_cluster_nodes[0].id`, `identity_providers.ci.issuer`. `.len`, `.keys` and `.nanoseconds` tell of them.

use serde_json::{Map, Value, json};

use super::pairs;
use crate::spec::duration;
use crate::spec::values::{Val, Values};

/// The value behind a path that begins with an option.
pub(super) fn option(values: &Values, path: &str) -> Option<Value> {
    let (name, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
    let value = &values.item(name)?.value;
    match (value, rest.strip_prefix('.')) {
        (Val::Object(nested), Some(inner)) => option(nested, inner),
        (Val::Duration(nanos), Some("nanoseconds")) => Some(json!(nanos)),
        _ => part(&to_json(value), rest),
    }
}

/// A part of a value: `[0]`, `.name`, or what `.len` and `.keys` tell.
fn part(value: &Value, path: &str) -> Option<Value> {
    if path.is_empty() {
        return Some(value.clone());
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (index, rest) = rest.split_once(']')?;
        return part(value.get(index.parse::<usize>().ok()?)?, rest);
    }
    let name = path.strip_prefix('.')?;
    match (value, name) {
        (Value::Array(items), "len") => Some(json!(items.len())),
        (Value::Object(entries), "keys") => Some(json!(entries.keys().collect::<Vec<_>>())),
        (Value::Object(entries), _) => entries.iter().find_map(|(key, inner)| {
            // Keys may hold dots themselves.
            part(inner, name.strip_prefix(key.as_str())?)
        }),
        _ => None,
    }
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
        Val::Flags(items) => map(items.iter().map(|(name, value, _)| (name.as_str(), json!(value)))),
        Val::Choice(member) => json!(member),
        Val::Claims(items) => map(items.iter().map(|(name, values)| (name.as_str(), json!(values)))),
        Val::Policy(policy, _) => serde_json::to_value(policy).unwrap_or(Value::Null),
        Val::Free(node) => node.to_json(),
        Val::Upstreams(items) => json!(items.iter().map(|upstream| &upstream.text).collect::<Vec<_>>()),
        Val::Object(nested) => object(nested),
        Val::Objects(items) => items.iter().map(object).collect(),
        Val::Named(items) => map(items.iter().map(|(name, nested)| (name.as_str(), object(nested)))),
    }
}

fn object(values: &Values) -> Value {
    map(values.iter().map(|(name, item)| (name, to_json(&item.value))))
}

fn map<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let entries = entries.map(|(name, value)| (name.to_owned(), value));
    Value::Object(entries.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_values() {
        let value = json!({"a": [{"b": 1}, "x"], "claim.name": {"c": true}});
        for (path, expected) in [
            ("", Some(value.clone())),
            (".a[0].b", Some(json!(1))),
            (".a[1]", Some(json!("x"))),
            (".a.len", Some(json!(2))),
            (".claim.name.c", Some(json!(true))),
            (".keys", Some(json!(["a", "claim.name"]))),
            (".a[2]", None),
            (".a[x]", None),
            (".b", None),
            (".a[1].len", None),
        ] {
            assert_eq!(part(&value, path), expected, "{path}");
        }
    }
}
