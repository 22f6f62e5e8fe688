//! The settings of records over those of the file: which of them can be used, each judged by itself.
//!
//! A record counts as a whole or not at all: half of a provider or of a rule is worse than none. One that cannot be
//! used is told and left out; where an earlier version of it was good, that one stays. The rest is in force.
//! Start at [`choose`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::loader::Outcome;
use crate::records::{Fault, RecordProblem, SettingsRecord};

/// Options of a file.
pub(crate) type Layer = Map<String, Value>;

/// The last version of each record that could be used, by its name.
pub(crate) type LastGood = BTreeMap<String, SettingsRecord>;

/// What is laid over the file.
#[derive(Default, Clone)]
pub(crate) struct Choice {
    accepted: Vec<SettingsRecord>,
    /// Records that are left out, and why.
    pub problems: Vec<RecordProblem>,
    /// One of them says which certificates clients need.
    pub guard_lost: bool,
}

impl Choice {
    /// In order, the last one on top. Records of their own are one layer: of a field that several of them set the last
    /// one counts, and lists and maps are joined.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut joined: Option<Layer> = None;
        for record in &self.accepted {
            if record.entity {
                join(joined.get_or_insert_default(), &record.options);
            } else {
                layers.push(record.options.clone());
            }
        }
        layers.extend(joined);
        layers
    }

    fn with(&self, record: &SettingsRecord) -> Self {
        let mut more = self.clone();
        more.accepted.push(record.clone());
        more
    }
}

/// Finds the records that can be used, and what comes of them. `attempt` loads everything with a choice.
pub(crate) fn choose(
    records: &[SettingsRecord],
    last_good: &mut LastGood,
    mut attempt: impl FnMut(&Choice) -> Outcome,
) -> (Choice, Outcome) {
    let all = Choice {
        accepted: records.to_vec(),
        ..Choice::default()
    };
    let readable = records.iter().all(|record| record.faults.is_empty());
    if readable {
        let outcome = attempt(&all);
        if records.is_empty() || outcome.is_clean() {
            *last_good = named(&all.accepted);
            return (all, outcome);
        }
    }
    let mut choice = Choice::default();
    let mut outcome = attempt(&choice);
    for record in records {
        let faults = match usable(record, &choice, &outcome, &mut attempt) {
            Ok(next) => {
                (choice, outcome) = next;
                continue;
            }
            Err(faults) => faults,
        };
        let noted = faults.into_iter().map(|fault| fault.of_record(&record.record));
        choice.problems.extend(noted);
        let before = last_good.get(&record.record).cloned();
        match before.map(|before| usable(&before, &choice, &outcome, &mut attempt)) {
            Some(Ok(next)) => (choice, outcome) = next,
            _ => {
                choice.guard_lost |= record.options.contains_key("downstream_mtls") || guards(&record.faults)
            }
        }
    }
    if choice.guard_lost {
        outcome = attempt(&choice);
    }
    let good = named(&choice.accepted);
    last_good.retain(|name, _| records.iter().any(|record| record.record == *name));
    last_good.extend(good);
    (choice, outcome)
}

/// What becomes of a choice with one record more, if nothing goes wrong that did not before.
fn usable(
    record: &SettingsRecord,
    choice: &Choice,
    before: &Outcome,
    attempt: &mut impl FnMut(&Choice) -> Outcome,
) -> Result<(Choice, Outcome), Vec<Fault>> {
    if !record.faults.is_empty() {
        return Err(record.faults.clone());
    }
    let next = choice.with(record);
    let outcome = attempt(&next);
    let known = before.sink.faults();
    let mut new = outcome.sink.faults();
    new.retain(|fault| !known.contains(fault));
    if new.is_empty() {
        return Ok((next, outcome));
    }
    Err(new)
}

/// What could not be read was to keep people out.
fn guards(faults: &[Fault]) -> bool {
    faults
        .iter()
        .any(|fault| fault.field.starts_with("downstream_mtls"))
}

fn named(records: &[SettingsRecord]) -> LastGood {
    let named = |record: &SettingsRecord| (record.record.clone(), record.clone());
    records.iter().map(named).collect()
}

/// As messages are merged: lists one after the other, maps and messages by key.
fn join(into: &mut Layer, more: &Layer) {
    for (name, value) in more {
        match (into.get_mut(name), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.iter().cloned()),
            (Some(Value::Object(inner)), Value::Object(more)) => join(inner, more),
            _ => drop(into.insert(name.clone(), value.clone())),
        }
    }
}
