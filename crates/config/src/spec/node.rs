//! The tree that every file format is read into: values with their positions, not yet interpreted.

use xxhash_rust::xxh3::Xxh3;

use crate::diagnostic::{Origin, Place};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its position.
    pub place: Place,
}

/// What a file can say.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Null: the key counts as unset.
    Null,
    /// Boolean.
    Bool(bool),
    /// Integer.
    Int(i128),
    /// Fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// List.
    List(Vec<Node>),
    /// Map, in the order of the file.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub node: Node,
}

impl Node {
    /// A node with a position.
    pub fn new(value: Value, place: Place) -> Self {
        Self { value, place }
    }

    /// Text from an environment variable.
    pub fn env(name: &'static str, text: &str) -> Self {
        Self::new(
            Value::Text(text.to_owned()),
            Place {
                origin: Origin::Env(name),
                line: 0,
                column: 0,
            },
        )
    }

    /// A tree of JSON, all of it at one place.
    pub fn from_json(json: &serde_json::Value, place: Place) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Value::Int(n.into()),
                (None, Some(n)) => Value::Int(n.into()),
                (None, None) => Value::Float(n.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => {
                Value::List(items.iter().map(|item| Self::from_json(item, place)).collect())
            }
            Json::Object(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        place,
                        node: Self::from_json(value, place),
                    })
                    .collect(),
            ),
        };
        Self::new(value, place)
    }

    /// Whether the key counts as unset.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The same for two trees that say the same, wherever they stand.
    pub fn fingerprint(&self) -> u128 {
        let mut hasher = Xxh3::new();
        self.feed(&mut hasher);
        hasher.digest128()
    }

    /// Every part is preceded by its kind and length, so that no two trees feed the same bytes.
    pub(crate) fn feed(&self, hasher: &mut Xxh3) {
        let text = |hasher: &mut Xxh3, kind: u8, text: &str| {
            hasher.update(&[kind]);
            hasher.update(&text.len().to_le_bytes());
            hasher.update(text.as_bytes());
        };
        match &self.value {
            Value::Null => hasher.update(&[0]),
            Value::Bool(value) => hasher.update(&[1, u8::from(*value)]),
            Value::Int(number) => {
                hasher.update(&[2]);
                hasher.update(&number.to_le_bytes());
            }
            Value::Float(number) => {
                hasher.update(&[3]);
                hasher.update(&number.to_bits().to_le_bytes());
            }
            Value::Text(value) => text(hasher, 4, value),
            Value::List(items) => {
                hasher.update(&[5]);
                hasher.update(&items.len().to_le_bytes());
                items.iter().for_each(|item| item.feed(hasher));
            }
            Value::Map(entries) => {
                hasher.update(&[6]);
                hasher.update(&entries.len().to_le_bytes());
                for entry in entries {
                    text(hasher, 7, &entry.key);
                    entry.node.feed(hasher);
                }
            }
        }
    }

    /// Number of nodes in this tree.
    pub fn size(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.node.size()).sum::<usize>(),
            _ => 1,
        }
    }

    /// The value of a key, compared without case.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|entry| entry.key.eq_ignore_ascii_case(key))
                .map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Marks the whole tree as coming from an environment variable; lines stay.
    pub fn into_env(mut self, name: &'static str) -> Self {
        self.visit_places(&mut |place| place.origin = Origin::Env(name));
        self
    }

    fn visit_places(&mut self, change: &mut dyn FnMut(&mut Place)) {
        change(&mut self.place);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.visit_places(change)),
            Value::Map(entries) => {
                for entry in entries {
                    change(&mut entry.place);
                    entry.node.visit_places(change);
                }
            }
            _ => {}
        }
    }

    /// Plain JSON, for parts that are passed on as they are (PPL, protobuf JSON).
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => i64::try_from(*n)
                .map(Json::from)
                .or_else(|_| u64::try_from(*n).map(Json::from))
                .unwrap_or_else(|_| Json::String(n.to_string())),
            Value::Float(n) => serde_json::Number::from_f64(*n).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), e.node.to_json()))
                    .collect(),
            ),
        }
    }
}
