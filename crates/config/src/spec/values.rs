//! Decoded options: typed values under their keys, with positions. What was not written is absent, unless the
//! table gives it a default.

use std::sync::Arc;

use serde_json::json;

use super::node::Node;
use super::upstream::Upstream;
use crate::diagnostic::{Origin, Place};
use crate::settings::RouteSettings;

/// A decoded value.
#[derive(Debug, Clone)]
pub enum Val {
    /// Boolean.
    Bool(bool),
    /// Text.
    Text(String),
    /// Whole number.
    Int(i64),
    /// Number.
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// List of texts.
    Texts(Vec<String>),
    /// Map of texts, in order.
    Pairs(Vec<(String, String)>),
    /// Map of switches.
    Flags(Vec<(String, bool, Place)>),
    /// A member of a set of names.
    Choice(&'static str),
    /// Nested options.
    Object(Values),
    /// List of nested options.
    Objects(Vec<Values>),
    /// Named nested options.
    Named(Vec<(String, Values)>),
    /// Claims and their values.
    Claims(Vec<(String, Vec<serde_json::Value>)>),
    /// Policy, with the tree it was read from.
    Policy(Box<pomerium_policy::ppl::Policy>, Node),
    /// Upstreams.
    Upstreams(Vec<Upstream>),
    /// Anything.
    Free(Node),
}

impl Val {
    /// Whether it is the zero of its kind: false, 0, empty.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Text(text) => text.is_empty(),
            Self::Int(number) | Self::Duration(number) => *number == 0,
            Self::Float(number) => *number == 0.0,
            Self::Texts(items) => items.is_empty(),
            Self::Pairs(items) => items.is_empty(),
            Self::Flags(items) => items.is_empty(),
            Self::Choice(_) => false,
            Self::Object(values) => values.is_empty(),
            Self::Objects(items) => items.is_empty(),
            Self::Named(items) => items.is_empty(),
            Self::Claims(items) => items.is_empty(),
            Self::Policy(..) => false,
            Self::Upstreams(items) => items.is_empty(),
            Self::Free(node) => {
                let empty = [json!(null), json!(false), json!(""), json!([]), json!({})];
                empty.contains(&node.to_json())
            }
        }
    }

    /// Whether it says the same as another value of the same key (used against defaults).
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Int(a), Self::Int(b)) | (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Texts(a), Self::Texts(b)) => a == b,
            (Self::Choice(a), Self::Choice(b)) => a == b,
            _ => false,
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub struct Item {
    /// The value.
    pub value: Val,
    /// Where.
    pub place: Place,
}

/// The options of one level.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// Sorted by name; a level has few of them.
    items: Vec<(&'static str, Item)>,
    failed: Vec<&'static str>,
    /// Key path of this level, empty at the top, `routes[0]` in a route.
    pub path: String,
    /// Where this level begins.
    pub place: Place,
    /// Of a route: what it says.
    pub(crate) fingerprint: u128,
    /// Of a route that the last load has read already: what came of it. There are no options then.
    pub(crate) known: Option<Arc<RouteSettings>>,
}

impl Values {
    pub(super) fn new(path: &str, place: Place) -> Self {
        Self {
            path: path.to_owned(),
            place,
            ..Self::default()
        }
    }

    /// A route that need not be read again.
    pub(super) fn known(path: &str, place: Place, fingerprint: u128, settings: Arc<RouteSettings>) -> Self {
        Self {
            fingerprint,
            known: Some(settings),
            ..Self::new(path, place)
        }
    }

    pub(super) fn insert(&mut self, name: &'static str, value: Val, place: Place) {
        let item = Item { value, place };
        match self.items.binary_search_by_key(&name, |(name, _)| *name) {
            Ok(at) => self.items[at].1 = item,
            Err(at) => self.items.insert(at, (name, item)),
        }
    }

    pub(super) fn fail(&mut self, name: &'static str) {
        self.failed.push(name);
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.items
            .iter()
            .all(|(_, item)| item.place.origin == Origin::Default)
    }

    /// The key path of an option of this level.
    pub fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Value and position.
    pub fn item(&self, name: &str) -> Option<&Item> {
        let found = self.items.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        self.items.get(found).map(|(_, item)| item)
    }

    /// All options of this level, defaults included, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Item)> {
        self.items.iter().map(|(name, item)| (*name, item))
    }

    /// Whether it was written (a default does not count).
    pub fn is_set(&self, name: &str) -> bool {
        self.item(name)
            .is_some_and(|item| item.place.origin != Origin::Default)
    }

    /// Whether it was written but could not be decoded (an error is already reported).
    pub fn is_failed(&self, name: &str) -> bool {
        self.failed.contains(&name)
    }

    /// Where it was written, or where this level begins.
    pub fn place(&self, name: &str) -> Place {
        self.item(name).map_or(self.place, |item| item.place)
    }

    /// Text; empty when absent.
    pub fn text(&self, name: &str) -> &str {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Text(text)) => text,
            _ => "",
        }
    }

    /// Text, if it was written and is not empty.
    pub fn some_text(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Boolean, if present.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// Boolean; false when absent.
    pub fn on(&self, name: &str) -> bool {
        self.bool(name).unwrap_or(false)
    }

    /// Whole number, if present.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// Number, if present.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// Nanoseconds, if present.
    pub fn nanoseconds(&self, name: &str) -> Option<i64> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Duration(value)) => Some(*value),
            _ => None,
        }
    }

    /// A duration, if present; negative ones count as zero.
    pub fn duration(&self, name: &str) -> Option<std::time::Duration> {
        self.nanoseconds(name)
            .map(|nanos| std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }

    /// List of texts; empty when absent.
    pub fn texts(&self, name: &str) -> &[String] {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Texts(items)) => items,
            _ => &[],
        }
    }

    /// Map of texts; empty when absent.
    pub fn pairs(&self, name: &str) -> &[(String, String)] {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Pairs(items)) => items,
            _ => &[],
        }
    }

    /// Switches; empty when absent.
    pub fn flags(&self, name: &str) -> &[(String, bool, Place)] {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Flags(items)) => items,
            _ => &[],
        }
    }

    /// The chosen name, if present.
    pub fn choice(&self, name: &str) -> Option<&'static str> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Choice(member)) => Some(member),
            _ => None,
        }
    }

    /// Nested options, if present.
    pub fn object(&self, name: &str) -> Option<&Values> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Object(values)) => Some(values),
            _ => None,
        }
    }

    /// List of nested options; empty when absent.
    pub fn objects(&self, name: &str) -> &[Values] {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Objects(items)) => items,
            _ => &[],
        }
    }

    /// Named nested options; empty when absent.
    pub fn named(&self, name: &str) -> &[(String, Values)] {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Named(items)) => items,
            _ => &[],
        }
    }

    /// Claims; empty when absent.
    pub fn claims(&self, name: &str) -> &[(String, Vec<serde_json::Value>)] {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Claims(items)) => items,
            _ => &[],
        }
    }

    /// Upstreams; empty when absent.
    pub fn upstreams(&self, name: &str) -> &[Upstream] {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Upstreams(items)) => items,
            _ => &[],
        }
    }

    /// Policy and its tree, if present.
    pub fn policy(&self, name: &str) -> Option<(&pomerium_policy::ppl::Policy, &Node)> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Policy(policy, node)) => Some((policy, node)),
            _ => None,
        }
    }

    /// Any tree, if present.
    pub fn free(&self, name: &str) -> Option<&Node> {
        match self.item(name).map(|item| &item.value) {
            Some(Val::Free(node)) => Some(node),
            _ => None,
        }
    }
}
