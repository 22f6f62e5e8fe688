//! What records say about a person: groups, devices, e-mail, and how they signed in.

use pomerium_api::pb::session::Session;
use pomerium_api::pb::session::session::device_credential;
use pomerium_api::synced::StructEntry;
use pomerium_policy::{Device, Group, GroupSource, Groups};
use serde_json::Value;

use super::behind::Behind;
use crate::claims::stringify;
use crate::session::Records;

/// A text field of a free object; empty when there is none.
pub(super) fn text<'a>(entry: &'a StructEntry, field: &str) -> &'a str {
    entry.data.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The e-mail for policies: the directory's unless it is empty, else that of the user record.
pub(super) fn email(directory: Option<&StructEntry>, user: Option<&str>) -> String {
    directory
        .map(|entry| text(entry, "email"))
        .filter(|email| !email.is_empty())
        .or(user)
        .unwrap_or_default()
        .to_owned()
}

/// The groups of the directory if it knows the person, else those of the claim.
pub(super) fn groups(records: &dyn Records, behind: &mut Behind, claim: Option<&[Value]>) -> Groups {
    let Some(ids) = behind.user().map(group_ids) else {
        return claimed(claim);
    };
    let mut group = |id: String| match behind.group(records, &id) {
        Some(record) => Group {
            name: text(&record, "name").to_owned(),
            email: text(&record, "email").to_owned(),
            id,
        },
        // The record is late, or there is none: the membership counts all the same.
        None => Group {
            id,
            ..Group::default()
        },
    };
    Groups {
        source: GroupSource::Directory,
        all: ids.into_iter().map(&mut group).collect(),
    }
}

/// Ids that are not all text are no ids.
fn group_ids(user: &StructEntry) -> Vec<String> {
    let ids = user.data.get("group_ids").and_then(Value::as_array);
    let text = |id: &Value| id.as_str().map(str::to_owned);
    ids.and_then(|ids| ids.iter().map(text).collect())
        .unwrap_or_default()
}

/// The groups a claim names.
pub(super) fn claimed(claim: Option<&[Value]>) -> Groups {
    let Some(values) = claim else {
        return Groups::default();
    };
    let group = |id| Group {
        id,
        ..Group::default()
    };
    Groups {
        source: GroupSource::Claim,
        all: values.iter().filter_map(stringify).map(group).collect(),
    }
}

/// The devices a session has shown. A credential or enrollment of somebody else proves nothing.
pub(super) fn devices(records: &dyn Records, behind: &mut Behind, session: &Session) -> Vec<Device> {
    let mine = |user_id: &str| user_id.is_empty() || user_id == session.user_id;
    let mut device = |shown: &pomerium_api::pb::session::session::DeviceCredential| {
        let Some(device_credential::Credential::Id(id)) = &shown.credential else {
            return None;
        };
        let credential = behind
            .credential(records, id)
            .filter(|entry| mine(&entry.credential.user_id));
        let enrollment = credential
            .as_ref()
            .and_then(|entry| behind.enrollment(records, &entry.credential.enrollment_id))
            .filter(|entry| mine(&entry.enrollment.user_id));
        Some(Device {
            type_id: shown.type_id.clone(),
            credential_id: credential.map(|entry| entry.credential.id.clone()),
            approved_by: enrollment.map(|entry| entry.enrollment.approved_by.clone()),
        })
    };
    session
        .device_credentials
        .iter()
        .filter_map(&mut device)
        .collect()
}
