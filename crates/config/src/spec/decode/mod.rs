//! Trees become values by the key table. Every mistake is reported with its key path and position; unknown
//! keys go to [`super::unknown`].

mod maps;
mod routes;

use super::keys::{Key, Kind};
use super::node::{Entry, Node, Value};
use super::sink::Sink;
use super::values::{Val, Values};
use super::{format, policy, scalar, unknown, upstream};
use crate::diagnostic::{Origin, Place};

/// Decodes one level of options. Defaults of the table are filled in.
#[allow(
    clippy::needless_pass_by_value,
    reason = "an iterator over a static table, cloned for each pass"
)]
pub fn options(
    keys: impl Iterator<Item = &'static Key> + Clone,
    node: &Node,
    path: &str,
    sink: &mut Sink,
) -> Values {
    let mut values = Values::new(path, node.place);
    for key in keys.clone() {
        let Some(text) = key.default else { continue };
        let default = Node::new(Value::Text(text.to_owned()), Place::default());
        if let Ok(value) = decode_text_value(key, &default) {
            values.insert(key.name, value, Place::default());
        }
    }
    let Value::Map(entries) = &node.value else {
        return values;
    };
    for entry in entries.iter().filter(|entry| !entry.node.is_null()) {
        match keys.clone().find(|key| key.name.eq_ignore_ascii_case(&entry.key)) {
            Some(key) => option(key, entry, &mut values, sink),
            None => unknown::report(keys.clone(), entry, path, sink),
        }
    }
    values
}

fn option(key: &'static Key, entry: &Entry, values: &mut Values, sink: &mut Sink) {
    let path = values.key(key.name);
    let place = Place {
        origin: entry.node.place.origin,
        ..entry.node.place
    };
    match value(key, &entry.node, &path, sink) {
        Some(value) => values.insert(key.name, value, place),
        None => values.fail(key.name),
    }
}

/// Decodes a value of a key; reports what is wrong with it.
fn value(key: &'static Key, node: &Node, path: &str, sink: &mut Sink) -> Option<Val> {
    match key.kind {
        Kind::Object(keys) => {
            let node = structured(node);
            map_only(&node, path, sink)?;
            Some(Val::Object(options(keys.iter(), &node, path, sink)))
        }
        Kind::Objects(keys) => objects(keys, &structured(node), path, sink).map(Val::Objects),
        Kind::Named(keys) => named(keys, &structured(node), path, sink),
        Kind::Routes => routes::decode(node, path, sink),
        Kind::Policy => policy::decode(node, path, sink),
        // Read where it is compiled; a script is no YAML.
        Kind::Scripts => Some(Val::Free(node.clone())),
        Kind::Upstreams => match upstream::parse(node) {
            Ok(list) => Some(Val::Upstreams(list)),
            Err(mistakes) => {
                for (place, message, help) in mistakes {
                    sink.error(place, path, message, help);
                }
                None
            }
        },
        Kind::Free => Some(Val::Free(structured(node).into_owned())),
        _ => match decode_text_value(key, node) {
            Ok(Val::Duration(nanos)) => {
                warn_about_nanoseconds(key, node, nanos, path, sink);
                Some(Val::Duration(nanos))
            }
            Ok(value) => Some(value),
            Err(message) => {
                sink.error(node.place, path, message, remedy(key));
                None
            }
        },
    }
}

/// Decodes the kinds that have a text form of their own.
pub(crate) fn decode_text_value(key: &'static Key, node: &Node) -> Result<Val, String> {
    Ok(match key.kind {
        Kind::Bool => Val::Bool(scalar::boolean(node)?),
        Kind::Text => Val::Text(scalar::text(node)?),
        Kind::Int(min, max) => Val::Int(scalar::number(node, min, max)?),
        Kind::Float => Val::Float(scalar::float(node)?),
        Kind::Duration => Val::Duration(scalar::nanoseconds(node)?),
        Kind::Millis => Val::Duration(scalar::milliseconds(node)?),
        Kind::Texts => Val::Texts(scalar::texts(node)?),
        Kind::TextMap => Val::Pairs(maps::text_map(key, node)?),
        Kind::BoolMap => Val::Flags(maps::bool_map(&structured(node))?),
        Kind::Choice(choices) => {
            let text = scalar::text(node)?;
            let unsupported = || format!("unsupported enum value {text} for {}", choices.name);
            Val::Choice(choices.find(&text).ok_or_else(unsupported)?)
        }
        Kind::StrictInt => match &strict(node).value {
            Value::Int(number) if (0..=i128::from(u32::MAX)).contains(number) => {
                Val::Int(i64::try_from(*number).unwrap_or_default())
            }
            _ => {
                return Err(format!(
                    "expected a whole number without quotes, found {}",
                    node.kind()
                ));
            }
        },
        Kind::StrictBool => match &strict(node).value {
            Value::Bool(value) => Val::Bool(*value),
            _ => {
                return Err(format!(
                    "expected true or false without quotes, found {}",
                    node.kind()
                ));
            }
        },
        Kind::StrictText => match &node.value {
            Value::Text(text) => Val::Text(text.clone()),
            _ => return Err(format!("expected text in quotes, found {}", node.kind())),
        },
        Kind::ClaimHeaders => Val::Pairs(maps::claim_headers(node)?),
        Kind::ClaimValues => Val::Claims(maps::claim_values(node)?),
        _ => return Err("this option has nested options".into()),
    })
}

/// `timeout: 30` means 30 nanoseconds: right by the rules, and never what people mean.
fn warn_about_nanoseconds(key: &Key, node: &Node, nanos: i64, path: &str, sink: &mut Sink) {
    let bare = matches!(node.value, Value::Int(_) | Value::Float(_)) && matches!(key.kind, Kind::Duration);
    if bare && nanos != 0 && nanos.abs() < 1_000_000 {
        let message = format!(
            "a bare number counts nanoseconds: this is {}",
            super::duration::format(nanos)
        );
        sink.warn(node.place, path, message, format!("write `{nanos}s` for seconds"));
    }
}

fn remedy(key: &Key) -> String {
    match key.kind {
        Kind::Bool => "write true or false".into(),
        Kind::Duration => "write a number with its unit, for instance 30s, 5m or 1h30m".into(),
        Kind::Millis => "write whole milliseconds without a unit, for instance 5000".into(),
        Kind::Choice(choices) => {
            let members: Vec<_> = choices
                .members
                .iter()
                .filter(|m| !m.starts_with("un"))
                .copied()
                .collect();
            format!("one of {}", members.join(", "))
        }
        Kind::Texts => "write a list, or text separated by commas".into(),
        Kind::TextMap => "write a map of name and value".into(),
        _ => String::new(),
    }
}

/// Text into a structured option is JSON (or YAML) text, as in an environment variable.
pub(super) fn structured(node: &Node) -> std::borrow::Cow<'_, Node> {
    use std::borrow::Cow;
    let Value::Text(text) = &node.value else {
        return Cow::Borrowed(node);
    };
    match format::parse_yaml(text) {
        Ok(mut tree) if matches!(tree.value, Value::List(_) | Value::Map(_)) => {
            tree.place = node.place;
            Cow::Owned(match node.place.origin {
                Origin::Env(name) => tree.into_env(name),
                _ => tree,
            })
        }
        _ => Cow::Borrowed(node),
    }
}

/// In the environment a number or boolean comes as text; in a file it must not.
fn strict(node: &Node) -> Node {
    match (&node.value, node.place.origin) {
        (Value::Text(text), Origin::Env(_) | Origin::Default) => {
            format::parse_yaml(text).unwrap_or_else(|_| node.clone())
        }
        _ => node.clone(),
    }
}

fn map_only(node: &Node, path: &str, sink: &mut Sink) -> Option<()> {
    if matches!(node.value, Value::Map(_)) {
        return Some(());
    }
    sink.error(
        node.place,
        path,
        format!("expected a map of options, found {}", node.kind()),
        "",
    );
    None
}

fn objects(keys: &'static [Key], node: &Node, path: &str, sink: &mut Sink) -> Option<Vec<Values>> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Map(_) => std::slice::from_ref(node),
        _ => {
            sink.error(
                node.place,
                path,
                format!("expected a list of maps, found {}", node.kind()),
                "",
            );
            return None;
        }
    };
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if map_only(item, &path, sink).is_some() {
            list.push(options(keys.iter(), item, &path, sink));
        }
    }
    (list.len() == items.len()).then_some(list)
}

fn named(keys: &'static [Key], node: &Node, path: &str, sink: &mut Sink) -> Option<Val> {
    map_only(node, path, sink)?;
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let mut list = Vec::with_capacity(entries.len());
    for entry in entries {
        let path = format!("{path}.{}", entry.key);
        map_only(&entry.node, &path, sink)?;
        let mut values = options(keys.iter(), &entry.node, &path, sink);
        values.place = entry.place;
        list.push((entry.key.clone(), values));
    }
    Some(Val::Named(list))
}
