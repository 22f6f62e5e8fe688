//! Configuration that is kept as records of the databroker instead of in a file (spec databroker.md 11, config.md 15):
//! routes, policies, settings, certificates and keys, alone or as a whole.
//!
//! A record becomes the same tree as a file, so that one decoder and one set of checks read both. Here: from messages
//! (as JSON, by field name) to that tree, what records may not say, and the order in which they count. Not here: where
//! records come from, and how they are laid over the file ([`crate::Loader`], [`crate::settings`]).
//! Start at [`Records::read`]; [`validate()`] judges one message before it becomes a record.

mod conditions;
mod key_pairs;
mod policies;
mod problem;
mod route;
mod settings;
mod validate;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use self::conditions::RELEASE;
use self::key_pairs::KeyPairs;
pub use self::problem::{Fault, RecordProblem};
pub use self::validate::validate;
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

/// What all records say, as trees; not yet decoded.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// In the order in which they count: of two with one id the first one stays.
    pub(crate) routes: Vec<RouteRecord>,
    /// In the order in which they count: the later one wins, field by field.
    pub(crate) settings: Vec<SettingsRecord>,
    /// Certificates to serve, after those of the file.
    pub(crate) certificates: Vec<CertificateRecord>,
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
    pub faults: Vec<Fault>,
}

/// The settings of one record.
#[derive(Clone)]
pub(crate) struct SettingsRecord {
    /// Which record, for messages.
    pub record: String,
    /// A record of its own: it is joined with the others of that sort, lists with lists.
    pub entity: bool,
    /// As options of a file.
    pub options: Map<String, Value>,
    /// What it asks for and records may not.
    pub faults: Vec<Fault>,
}

impl std::fmt::Debug for SettingsRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What they say may be secret.
        f.debug_struct("SettingsRecord")
            .field("record", &self.record)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .field("faults", &self.faults)
            .finish()
    }
}

/// A certificate to serve.
#[derive(Debug, Clone)]
pub(crate) struct CertificateRecord {
    /// Which record, for messages.
    pub record: String,
    /// PEM.
    pub chain: Vec<u8>,
    /// PEM.
    pub key: crate::settings::Secret,
}

impl Records {
    /// Reads what counts: `Config` records by id, then those of `VersionedConfig` records whose conditions hold, then
    /// records of single things, in which others are named by id.
    pub fn read(documents: impl IntoIterator<Item = Document>) -> Self {
        let mut records = Self::default();
        let mut by_kind: BTreeMap<(Place, String), Map<String, Value>> = BTreeMap::new();
        let mut named = Named::default();
        for document in documents {
            let label = format!("{} {}", document.kind, document.id);
            let message = match document.message {
                Ok(Value::Object(message)) => message,
                Ok(_) => continue,
                Err(why) => {
                    records.fault(&label, Fault::whole(why));
                    continue;
                }
            };
            let id = document.id;
            match document.kind.as_str() {
                "Config" => drop(by_kind.insert((Place::Config, id), message)),
                "VersionedConfig" => drop(by_kind.insert((Place::Versioned, id), message)),
                "Route" => drop(by_kind.insert((Place::Route, id), message)),
                "Settings" => drop(by_kind.insert((Place::Settings, id), message)),
                "Policy" => drop(named.policies.insert(id, message)),
                "KeyPair" => named.key_pairs.insert(id, &message),
                kind => {
                    let why = format!("records of type {kind} have no effect; remove it");
                    records.fault(&label, Fault::whole(why));
                }
            }
        }
        for ((place, id), message) in by_kind {
            records.take(place, &id, message, &named);
        }
        records.judge_policies(&named);
        records.serve_key_pairs(&named);
        records
    }

    /// Whether there are no records of this sort.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
            && self.settings.is_empty()
            && self.certificates.is_empty()
            && self.problems.is_empty()
    }

    /// A route that everything here likes, and what it is made for does not: from the next load on it keeps its place
    /// and lets nobody in. False when there is no such route, or it is closed already.
    pub fn refuse_route(&mut self, record: &str, why: impl Into<String>) -> bool {
        let found = self.routes.iter_mut().find(|route| route.record == record);
        let Some(route) = found.filter(|route| route.faults.is_empty()) else {
            return false;
        };
        route.faults.push(Fault::whole(why));
        true
    }

    fn take(&mut self, place: Place, id: &str, message: Map<String, Value>, named: &Named) {
        match place {
            Place::Config => self.config(&format!("Config {id}"), message, named),
            Place::Versioned => self.versioned(&format!("VersionedConfig {id}"), message, named),
            Place::Route => self.route(format!("Route {id}"), Some(id.to_owned()), message, named),
            Place::Settings => self.settings_of(format!("Settings {id}"), true, message, named),
        }
    }

    fn versioned(&mut self, label: &str, mut message: Map<String, Value>, named: &Named) {
        match conditions::hold(message.get("conditions")) {
            Ok(true) => {}
            Ok(false) => return tracing::debug!(record = label, "its conditions do not hold"),
            Err(fault) => return self.fault(label, fault),
        }
        if let Some(Value::Object(config)) = message.remove("config") {
            self.config(label, config, named);
        }
    }

    fn config(&mut self, label: &str, mut message: Map<String, Value>, named: &Named) {
        if let Some(Value::Object(settings)) = message.remove("settings") {
            self.settings_of(format!("{label} settings"), false, settings, named);
        }
        let Some(Value::Array(routes)) = message.remove("routes") else {
            return;
        };
        for (index, route) in routes.into_iter().enumerate() {
            if let Value::Object(route) = route {
                self.route(format!("{label} routes[{index}]"), None, route, named);
            }
        }
    }

    fn route(&mut self, record: String, id: Option<String>, message: Map<String, Value>, named: &Named) {
        self.routes.push(route::read(record, id, message, named));
    }

    fn settings_of(&mut self, record: String, entity: bool, message: Map<String, Value>, named: &Named) {
        let found = settings::read(record, entity, message, &named.key_pairs);
        if found.settings.faults.is_empty() {
            self.certificates.extend(found.certificates);
        }
        self.settings.push(found.settings);
    }

    /// A policy that cannot be judged is told even while no route names it.
    fn judge_policies(&mut self, named: &Named) {
        for (id, message) in &named.policies {
            let label = format!("Policy {id}");
            if message.get("enforced") == Some(&Value::Bool(true)) {
                let why =
                    "a policy counts for the routes that name it in `policy_ids`, not for all by itself";
                self.fault(&label, Fault::of("enforced", why));
            }
        }
        self.problems.extend(validate::policies(&named.policies));
    }

    /// Every pair whose certificate is for servers is served, whether or not something names it.
    fn serve_key_pairs(&mut self, named: &Named) {
        for (id, pair) in named.key_pairs.iter() {
            match pair.to_serve(id) {
                Ok(certificate) => self.certificates.extend(certificate),
                Err(fault) => self.fault(&format!("KeyPair {id}"), fault),
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        self.certificates
            .retain(|certificate| seen.insert(certificate.chain.clone()));
    }

    fn fault(&mut self, record: &str, fault: Fault) {
        self.problems.push(fault.of_record(record));
    }
}

/// Where a record stands in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Config,
    Versioned,
    Route,
    Settings,
}

/// What other records name by id.
#[derive(Debug, Default)]
pub(crate) struct Named {
    policies: Policies,
    key_pairs: KeyPairs,
}

/// Policy records by id.
type Policies = BTreeMap<String, Map<String, Value>>;

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;
