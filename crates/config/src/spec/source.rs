//! Sources and their precedence: records over environment over file over defaults (spec config.md 2). Each variable
//! replaces the whole value of its key.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::decode;
use super::format;
use super::keys::{self, Key, Kind};
use super::node::{Entry, Node, Value};
use super::sink::Sink;
use super::values::Values;
use crate::diagnostic::{Origin, Place, Step};
use crate::file_text::Unreadable;

/// The environment, as a map.
pub type Environment = BTreeMap<String, String>;

/// The config file: where it is, and what it says.
pub(crate) type ConfigFile<'a> = (&'a Path, Result<&'a str, &'a Unreadable>);

/// Reads file and environment into decoded options, with `layers` of records over them, the last one on top; `None`
/// when the file cannot be read at all.
pub(crate) fn read(
    file: Option<ConfigFile<'_>>,
    env: &Environment,
    layers: &[Map<String, Json>],
    sink: &mut Sink,
) -> Option<Values> {
    sink.step = Step::Read;
    let mut tree = match file {
        Some((path, text)) => parse(path, text, sink)?,
        None => Node::new(Value::Map(Vec::new()), Place::default()),
    };
    overlay(&mut tree, env);
    for layer in layers {
        lay_over(&mut tree, layer);
    }
    sink.memory.begin(&tree);
    sink.step = Step::Decode;
    Some(decode::options(keys::global(), &tree, "", sink))
}

/// Lays the settings of a record over the tree: each replaces the whole value of its option, and the file that would say
/// the same.
fn lay_over(tree: &mut Node, layer: &Map<String, Json>) {
    let place = Place {
        origin: Origin::Record,
        ..Place::default()
    };
    for (name, value) in layer {
        let node = Node::from_json(value, place);
        match (&node.value, find(tree, name)) {
            // Its options are settings of their own in a record.
            (Value::Map(inner), Some(outer)) if name == "branding" && is_map(outer) => {
                for entry in inner {
                    put(outer, &entry.key, entry.node.clone());
                }
            }
            (Value::Map(_), Some(outer)) if name == "downstream_mtls" => {
                *outer = keeping_authorities(outer, node);
            }
            _ => put(tree, name, node),
        }
        // The two add up.
        if name != "certificate_authority" {
            remove(tree, &format!("{name}_file"));
        }
    }
}

/// `downstream_mtls` of a record counts as a whole, but for authorities and revocation lists: those below stay unless it
/// brings others. A record that only says how to enforce them must not lose them.
fn keeping_authorities(below: &Node, mut above: Node) -> Node {
    let below = decode::structured(below);
    for (name, file) in [("ca", "ca_file"), ("crl", "crl_file")] {
        if above.get(name).is_some_and(|node| !says_nothing(node)) {
            continue;
        }
        remove(&mut above, name);
        for kept in [name, file] {
            if let Some(node) = below.get(kept) {
                put(&mut above, kept, node.clone());
            }
        }
    }
    above
}

fn says_nothing(node: &Node) -> bool {
    node.is_null() || matches!(&node.value, Value::Text(text) if text.is_empty())
}

fn is_map(node: &Node) -> bool {
    matches!(node.value, Value::Map(_))
}

fn find<'a>(tree: &'a mut Node, name: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut tree.value else {
        return None;
    };
    let entry = entries
        .iter_mut()
        .find(|entry| entry.key.eq_ignore_ascii_case(name));
    entry.map(|entry| &mut entry.node)
}

fn remove(tree: &mut Node, name: &str) {
    if let Value::Map(entries) = &mut tree.value {
        entries.retain(|entry| !entry.key.eq_ignore_ascii_case(name));
    }
}

fn parse(path: &Path, text: Result<&str, &Unreadable>, sink: &mut Sink) -> Option<Node> {
    let mut fail = |place, message: &str, help: &str| {
        sink.error(place, "", format!("failed to read config: {message}"), help);
        None
    };
    match text {
        Err(error) => fail(Place::default(), &error.message, error.help),
        Ok(text) => match format::parse_file(path, text) {
            Ok(tree) => Some(tree),
            Err(error) => fail(error.place, &error.message, &error.help),
        },
    }
}

/// Lays the environment over the tree.
fn overlay(tree: &mut Node, env: &Environment) {
    for key in keys::global() {
        if let Kind::Object(inner) = key.kind
            && inner.iter().any(|key| key.env.is_some())
        {
            overlay_nested(tree, key, inner, env);
        } else if let Some(node) = variable(key, env) {
            put(tree, key.name, node);
        }
    }
}

/// `downstream_mtls` has a variable for each of its keys.
fn overlay_nested(tree: &mut Node, outer: &Key, inner: &'static [Key], env: &Environment) {
    for key in inner {
        let Some(node) = variable(key, env) else { continue };
        if !matches!(tree.get(outer.name).map(|node| &node.value), Some(Value::Map(_))) {
            put(tree, outer.name, Node::new(Value::Map(Vec::new()), node.place));
        }
        if let Value::Map(entries) = &mut tree.value
            && let Some(entry) = entries
                .iter_mut()
                .find(|entry| entry.key.eq_ignore_ascii_case(outer.name))
        {
            put(&mut entry.node, key.name, node);
        }
    }
}

/// The variable of a key; an empty one counts as unset.
fn variable(key: &Key, env: &Environment) -> Option<Node> {
    let name: &'static str = key.env.unwrap_or_else(|| upper(key.name));
    env.get(name)
        .filter(|text| !text.is_empty())
        .map(|text| Node::env(name, text))
}

/// The upper-case name, made once per key.
fn upper(name: &'static str) -> &'static str {
    use std::collections::HashMap;
    use std::sync::LazyLock;
    static NAMES: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
        keys::global()
            .map(|key| (key.name, &*Box::leak(key.name.to_uppercase().into_boxed_str())))
            .collect()
    });
    NAMES.get(name).copied().unwrap_or(name)
}

fn put(tree: &mut Node, name: &str, node: Node) {
    remove(tree, name);
    if let Value::Map(entries) = &mut tree.value {
        entries.push(Entry {
            key: name.to_owned(),
            place: node.place,
            node,
        });
    }
}

/// The environment variable of an option, for documentation.
pub fn variable_name(key: &'static Key) -> &'static str {
    key.env.unwrap_or_else(|| upper(key.name))
}
