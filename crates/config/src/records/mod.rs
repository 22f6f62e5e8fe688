//! Routes that are kept as records of the databroker instead of in a file (spec config.md 15).
//!
//! A record becomes the same tree as a route of a file, so that one decoder and one set of checks read both.
//! Here: from messages (as JSON, by field name) to that tree, and what records may not say. Not here: where
//! records come from, and their place after the routes of the file ([`crate::settings`]).
//! Start at [`Records::read`].

mod policies;
mod route;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::spec::node::Node;

/// A record: its message by name and as JSON.
#[derive(Debug, Clone)]
pub struct Document {
    /// `Route`, `Policy`, `Config` and so on.
    pub kind: String,
    /// Id of the record.
    pub id: String,
    /// The message, or why it cannot be read.
    pub message: Result<Value, String>,
}

/// A record that is left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordProblem {
    /// Which one, such as `Route wiki`.
    pub record: String,
    /// What is wrong with it and what to do.
    pub message: String,
}

impl fmt::Display for RecordProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.record, self.message)
    }
}

/// The routes of all records, as trees; not yet decoded.
#[derive(Debug, Clone, Default)]
pub struct Records {
    pub(crate) routes: Vec<RouteRecord>,
    /// Records, or parts of them, that cannot be read at all.
    pub problems: Vec<RecordProblem>,
}

/// One route of a record.
#[derive(Debug, Clone)]
pub(crate) struct RouteRecord {
    /// Which record, for messages.
    pub record: String,
    /// The id it was given; otherwise it follows from its content.
    pub id: Option<String>,
    /// As a route of a file.
    pub node: Node,
    /// What it asks for and records may not.
    pub faults: Vec<String>,
}

impl Records {
    /// Reads the routes of `Config` records (by id), then those of `Route` records; `Policy` records are put
    /// into the routes that name them.
    ///
    /// Kinds that have no effect yet are reported; records of kinds that only others refer to are not.
    pub fn read(documents: impl IntoIterator<Item = Document>) -> Self {
        let mut records = Self::default();
        let mut by_kind: BTreeMap<(u8, String), Map<String, Value>> = BTreeMap::new();
        let mut policies = BTreeMap::new();
        for document in documents {
            let label = format!("{} {}", document.kind, document.id);
            let message = match document.message {
                Ok(Value::Object(message)) => message,
                Ok(_) => continue,
                Err(why) => {
                    records.fault(label, why);
                    continue;
                }
            };
            match document.kind.as_str() {
                "Config" => drop(by_kind.insert((0, document.id), message)),
                "Route" => drop(by_kind.insert((1, document.id), message)),
                "Policy" => drop(policies.insert(document.id, message)),
                "KeyPair" => {}
                kind => records.fault(
                    label,
                    format!("records of type {kind} have no effect yet; remove it"),
                ),
            }
        }
        for ((kind, id), message) in by_kind {
            match kind {
                0 => records.config(&id, message, &policies),
                _ => records.route(format!("Route {id}"), Some(id), message, &policies),
            }
        }
        records
    }

    /// Whether there are no records of this sort.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.problems.is_empty()
    }

    fn config(&mut self, id: &str, mut message: Map<String, Value>, policies: &Policies) {
        if message.contains_key("settings") {
            let why = "its `settings` have no effect yet: only its routes are used";
            self.fault(format!("Config {id}"), why.into());
        }
        let Some(Value::Array(routes)) = message.remove("routes") else {
            return;
        };
        for (index, route) in routes.into_iter().enumerate() {
            if let Value::Object(route) = route {
                self.route(format!("Config {id} routes[{index}]"), None, route, policies);
            }
        }
    }

    fn route(
        &mut self,
        record: String,
        id: Option<String>,
        message: Map<String, Value>,
        policies: &Policies,
    ) {
        self.routes.push(route::read(record, id, message, policies));
    }

    fn fault(&mut self, record: String, message: String) {
        self.problems.push(RecordProblem { record, message });
    }
}

/// Policy records by id.
type Policies = BTreeMap<String, Map<String, Value>>;

#[cfg(test)]
mod tests;
