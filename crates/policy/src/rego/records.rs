//! Records as scripts see them: `get_databroker_record` (spec policy.md 6.2).

use std::sync::Arc;

use regorus::Value;

use super::uses::Uses;
use super::value::{object, of_json};
use crate::input::{Device, GroupSource, RecordLookup, SESSION, Subject};

const USER: &str = "type.googleapis.com/user.User";
const DIRECTORY_USER: &str = "pomerium.io/DirectoryUser";
const DIRECTORY_GROUP: &str = "pomerium.io/DirectoryGroup";
const CREDENTIAL: &str = "type.googleapis.com/pomerium.device.Credential";
const ENROLLMENT: &str = "type.googleapis.com/pomerium.device.Enrollment";

/// The kind of this name, as a part of what a script uses; nothing for kinds that tell of no person.
pub(super) fn kind(name: &str) -> Uses {
    match name {
        SESSION => Uses::SESSIONS,
        USER => Uses::USERS,
        DIRECTORY_USER => Uses::DIRECTORY_USERS,
        DIRECTORY_GROUP => Uses::DIRECTORY_GROUPS,
        CREDENTIAL => Uses::CREDENTIALS,
        ENROLLMENT => Uses::ENROLLMENTS,
        _ => Uses::default(),
    }
}

/// A record of the person: kind, id, what it says.
type Record = (&'static str, String, Value);

/// The records of one evaluation.
pub(super) struct Records {
    lookup: Arc<dyn RecordLookup>,
    /// The person as the policy language knows them, for lookups that do not hold their records themselves. Both
    /// languages then judge the same person.
    person: Option<Vec<Record>>,
}

impl Records {
    /// `uses` tells which kinds can be asked for: no others are made.
    pub(super) fn new(lookup: Arc<dyn RecordLookup>, subject: Option<&Subject>, uses: Uses) -> Self {
        Self {
            lookup,
            person: subject.map(|subject| person(subject, uses)),
        }
    }

    /// The record with this id, or the one with the smallest network around this address; null when there is none,
    /// or none that still counts.
    pub(super) fn get(&self, kind: &str, id: &str, now: jiff::Timestamp) -> Value {
        let found = self.lookup.by_id(kind, id);
        if let Some(record) = found {
            return shown(&record, now);
        }
        let known = self
            .person
            .iter()
            .flatten()
            .find(|(of, name, _)| *of == kind && name == id);
        if let Some((_, _, record)) = known {
            return record.clone();
        }
        let address = id.parse().ok();
        let found = address.and_then(|address| self.lookup.by_address(kind, address));
        found.map_or(Value::Null, |record| shown(&record, now))
    }
}

fn shown(record: &serde_json::Value, now: jiff::Timestamp) -> Value {
    if has_expired(record, now) {
        Value::Null
    } else {
        of_json(record)
    }
}

/// `expires_at` as text or as seconds.
fn has_expired(record: &serde_json::Value, now: jiff::Timestamp) -> bool {
    let Some(expires) = record.get("expires_at") else {
        return false;
    };
    match expires {
        serde_json::Value::String(text) => text.parse::<jiff::Timestamp>().is_ok_and(|moment| moment < now),
        other => other
            .get("seconds")
            .and_then(|seconds| seconds.as_i64().or_else(|| seconds.as_str()?.parse().ok()))
            .is_some_and(|seconds| seconds < now.as_second()),
    }
}

fn text(text: &str) -> Value {
    Value::from(text)
}

/// Fields that are empty are left out, as in records.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    object(
        fields
            .into_iter()
            .filter(|(_, value)| !empty(value))
            .map(|(name, value)| (text(name), value)),
    )
}

fn person(subject: &Subject, uses: Uses) -> Vec<Record> {
    let mut records = Vec::new();
    if uses.any(Uses::SESSIONS) {
        records.push((SESSION, subject.session_id.clone(), session(subject)));
    }
    if uses.any(Uses::USERS) {
        let user = fields([("id", text(&subject.user_id)), ("email", text(&subject.email))]);
        records.push((USER, subject.user_id.clone(), user));
    }
    if subject.groups.source == GroupSource::Directory {
        directory(&mut records, subject, uses);
    }
    for device in &subject.devices {
        if let Some(id) = &device.credential_id {
            credential(&mut records, device, id, uses);
        }
    }
    records
}

fn session(subject: &Subject) -> Value {
    let claims = subject.claims.iter().map(|(name, values)| {
        let values: Vec<Value> = values.iter().map(of_json).collect();
        (text(name), Value::from(values))
    });
    let devices = subject.devices.iter().filter_map(|device| {
        let id = device.credential_id.as_ref()?;
        Some(fields([
            ("type_id", text(&device.type_id)),
            ("Credential", fields([("Id", text(id))])),
        ]))
    });
    fields([
        ("id", text(&subject.session_id)),
        ("user_id", text(&subject.user_id)),
        ("claims", object(claims)),
        ("device_credentials", Value::from(devices.collect::<Vec<_>>())),
    ])
}

fn directory(records: &mut Vec<Record>, subject: &Subject, uses: Uses) {
    if uses.any(Uses::DIRECTORY_USERS) {
        let ids: Vec<Value> = subject.groups.all.iter().map(|group| text(&group.id)).collect();
        let user = fields([
            ("id", text(&subject.user_id)),
            ("email", text(&subject.email)),
            ("group_ids", Value::from(ids)),
        ]);
        records.push((DIRECTORY_USER, subject.user_id.clone(), user));
    }
    if uses.any(Uses::DIRECTORY_GROUPS) {
        records.extend(subject.groups.all.iter().map(|group| {
            let shown = fields([
                ("id", text(&group.id)),
                ("name", text(&group.name)),
                ("email", text(&group.email)),
            ]);
            (DIRECTORY_GROUP, group.id.clone(), shown)
        }));
    }
}

fn credential(records: &mut Vec<Record>, device: &Device, id: &str, uses: Uses) {
    let enrollment = device
        .approved_by
        .as_ref()
        .map(|by| (format!("enrollment of {id}"), by));
    if uses.any(Uses::CREDENTIALS) {
        let enrolled = enrollment.as_ref().map_or("", |(id, _)| id);
        let shown = fields([
            ("id", text(id)),
            ("type_id", text(&device.type_id)),
            ("enrollment_id", text(enrolled)),
        ]);
        records.push((CREDENTIAL, id.to_owned(), shown));
    }
    if let Some((id, by)) = enrollment.filter(|_| uses.any(Uses::ENROLLMENTS)) {
        let shown = fields([("id", text(&id)), ("approved_by", text(by))]);
        records.push((ENROLLMENT, id, shown));
    }
}
