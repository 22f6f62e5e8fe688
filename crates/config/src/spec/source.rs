//! Sources and their precedence: records over environment over file over defaults (spec config.md 2). Each variable
//! replaces the whole value of its key.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value as Json};

use super::decode;
use super::format::{self, MAX_FILE};
use super::keys::{self, Key, Kind};
use super::node::{Entry, Node, Value};
use super::sink::Sink;
use super::values::Values;
use crate::diagnostic::{Origin, Place};

/// The environment, as a map.
pub type Environment = BTreeMap<String, String>;

/// The config file.
pub struct ConfigFile<'a> {
    /// Where it is, if there is one.
    pub path: Option<&'a Path>,
    /// It has said something before: then it does not say nothing now, it is about to be written.
    pub had_content: &'a AtomicBool,
}

/// Reads file and environment into decoded options, with `layers` of records over them, the last one on top; `None`
/// when the file cannot be read at all.
pub fn read(
    file: &ConfigFile<'_>,
    env: &Environment,
    layers: &[Map<String, Json>],
    sink: &mut Sink,
) -> Option<Values> {
    let mut tree = match file.path {
        Some(path) => read_file(path, file.had_content, sink)?,
        None => Node::new(Value::Map(Vec::new()), Place::default()),
    };
    overlay(&mut tree, env);
    for layer in layers {
        lay_over(&mut tree, layer);
    }
    sink.memory.begin(&tree);
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

fn read_file(path: &Path, had_content: &AtomicBool, sink: &mut Sink) -> Option<Node> {
    let text = match read_text(path) {
        Ok(text) if has_content(&text) => {
            had_content.store(true, Ordering::Relaxed);
            text
        }
        Ok(_) if had_content.load(Ordering::Relaxed) => {
            let message = "failed to read config: the file is empty, and was not before";
            let help =
                "write the configuration, aside and then renamed into place; `{}` is one that sets nothing";
            sink.error(Place::default(), "", message, help);
            return None;
        }
        Ok(text) => text,
        Err(message) => {
            let help = "check the path given to --config and who may read the file";
            sink.error(
                Place::default(),
                "",
                format!("failed to read config: {message}"),
                help,
            );
            return None;
        }
    };
    match format::parse_file(path, &text) {
        Ok(tree) => Some(tree),
        Err(error) => {
            sink.error(
                error.place,
                "",
                format!("failed to read config: {}", error.message),
                error.help,
            );
            None
        }
    }
}

/// Whether a text says anything in one of the formats: more than blanks, comments and the borders of documents.
fn has_content(text: &str) -> bool {
    let says = |line: &str| !matches!(line.trim(), "" | "---" | "...") && !line.trim().starts_with('#');
    text.trim_start_matches('\u{feff}').lines().any(says)
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {} MiB", MAX_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".into())
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
