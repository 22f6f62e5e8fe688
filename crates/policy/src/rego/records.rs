//! Records as scripts see them: `get_databroker_record` (spec policy.md 6.2).

use std::sync::Arc;

use regorus::Value;

use super::value::{object, of_json};
use crate::input::{GroupSource, RecordLookup, Subject};

const SESSION: &str = "type.googleapis.com/session.Session";
const USER: &str = "type.googleapis.com/user.User";
const DIRECTORY_USER: &str = "pomerium.io/DirectoryUser";
const DIRECTORY_GROUP: &str = "pomerium.io/DirectoryGroup";
const CREDENTIAL: &str = "type.googleapis.com/pomerium.device.Credential";
const ENROLLMENT: &str = "type.googleapis.com/pomerium.device.Enrollment";

/// The records of one evaluation.
pub(super) struct Records {
    lookup: Arc<dyn RecordLookup>,
    /// The person as the policy language knows them, for lookups that do not hold their records themselves. Both
    /// languages then judge the same person.
    person: Option<Vec<(&'static str, String, Value)>>,
}

impl Records {
    pub(super) fn new(lookup: Arc<dyn RecordLookup>, subject: Option<&Subject>) -> Self {
        Self {
            lookup,
            person: subject.map(person),
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

fn person(subject: &Subject) -> Vec<(&'static str, String, Value)> {
    let claims = subject.claims.iter().map(|(name, values)| {
        let values: Vec<Value> = values.iter().map(of_json).collect();
        (text(name), Value::from(values))
    });
    let with_credential = subject
        .devices
        .iter()
        .filter_map(|device| Some((device, device.credential_id.as_ref()?)));
    let shown: Vec<Value> = with_credential
        .clone()
        .map(|(device, id)| {
            fields([
                ("type_id", text(&device.type_id)),
                ("Credential", fields([("Id", text(id))])),
            ])
        })
        .collect();
    let session = fields([
        ("id", text(&subject.session_id)),
        ("user_id", text(&subject.user_id)),
        ("claims", object(claims)),
        ("device_credentials", Value::from(shown)),
    ]);
    let user = fields([("id", text(&subject.user_id)), ("email", text(&subject.email))]);
    let mut records = vec![
        (SESSION, subject.session_id.clone(), session),
        (USER, subject.user_id.clone(), user),
    ];
    if subject.groups.source == GroupSource::Directory {
        let ids: Vec<Value> = subject.groups.all.iter().map(|group| text(&group.id)).collect();
        let user = fields([
            ("id", text(&subject.user_id)),
            ("email", text(&subject.email)),
            ("group_ids", Value::from(ids)),
        ]);
        records.push((DIRECTORY_USER, subject.user_id.clone(), user));
        records.extend(subject.groups.all.iter().map(|group| {
            let shown = fields([
                ("id", text(&group.id)),
                ("name", text(&group.name)),
                ("email", text(&group.email)),
            ]);
            (DIRECTORY_GROUP, group.id.clone(), shown)
        }));
    }
    for (device, id) in with_credential {
        let enrollment = device
            .approved_by
            .as_ref()
            .map(|by| (format!("enrollment of {id}"), by));
        let enrolled = enrollment.as_ref().map_or("", |(id, _)| id);
        let shown = fields([
            ("id", text(id)),
            ("type_id", text(&device.type_id)),
            ("enrollment_id", text(enrolled)),
        ]);
        records.push((CREDENTIAL, id.clone(), shown));
        if let Some((id, by)) = enrollment {
            let shown = fields([("id", text(&id)), ("approved_by", text(by))]);
            records.push((ENROLLMENT, id, shown));
        }
    }
    records
}
