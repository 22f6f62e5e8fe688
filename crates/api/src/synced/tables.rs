//! Every table, and which record goes into which.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::documents::Documents;
use super::entry::{
    CredentialEntry, DeviceTypeEntry, EnrollmentEntry, ServiceAccountEntry, SessionEntry, UserEntry,
};
use super::parts::Parts;
use super::structs::Structs;
use super::table::{Arrival, Table};
use crate::config_records;
use crate::databroker::{Error, Record, Versions};
use crate::pb;
use crate::records::{RecordMessage, STRUCT};

/// Ids by type, of what a snapshot named. Of the types with a table of their own the tables know it.
pub(super) type Seen = HashMap<String, HashSet<String>>;

pub(super) struct Tables {
    pub(super) sessions: Table<SessionEntry>,
    pub(super) users: Table<UserEntry>,
    pub(super) accounts: Table<ServiceAccountEntry>,
    pub(super) credentials: Table<CredentialEntry>,
    pub(super) enrollments: Table<EnrollmentEntry>,
    pub(super) device_types: Table<DeviceTypeEntry>,
    pub(super) structs: Structs,
    pub(super) documents: Documents,
}

impl Tables {
    pub(super) fn new() -> Self {
        Self {
            sessions: Table::new(),
            users: Table::new(),
            accounts: Table::new(),
            credentials: Table::new(),
            enrollments: Table::new(),
            device_types: Table::new(),
            structs: Structs::new(),
            documents: Documents::default(),
        }
    }

    /// Takes over a live record or a tombstone. Whether what it says may be something else now.
    pub(super) fn apply(&self, arrival: Arrival, record: &Record) -> Result<bool, Error> {
        match record.r#type.as_str() {
            pb::session::Session::TYPE => self.sessions.apply(arrival, record),
            pb::user::User::TYPE => self.users.apply(arrival, record),
            pb::user::ServiceAccount::TYPE => self.accounts.apply(arrival, record),
            pb::device::Credential::TYPE => self.credentials.apply(arrival, record),
            pb::device::Enrollment::TYPE => self.enrollments.apply(arrival, record),
            pb::device::Type::TYPE => self.device_types.apply(arrival, record),
            kind if kind.starts_with(config_records::PREFIX) => {
                self.documents.apply(record);
                Ok(true)
            }
            _ => self.structs.apply(arrival.server_version, record),
        }
    }

    /// Notes a record of a snapshot that has no table of its own, unless nothing of its sort is kept anyway.
    pub(super) fn note(seen: &mut Seen, record: Record) {
        let free = record.data.as_ref().is_some_and(|data| data.type_url == STRUCT);
        let document = record.r#type.starts_with(config_records::PREFIX);
        if document || (free && !is_typed(&record.r#type)) {
            seen.entry(record.r#type).or_default().insert(record.id);
        }
    }

    /// Keeps what a complete `snapshot` taken at `at` named, and what is newer than it. Of records without a table of
    /// their own that is what was `seen`.
    pub(super) fn keep_only(&self, seen: &Seen, (snapshot, at): (u32, Versions)) {
        self.sessions.keep_only(snapshot, at);
        self.users.keep_only(snapshot, at);
        self.accounts.keep_only(snapshot, at);
        self.credentials.keep_only(snapshot, at);
        self.enrollments.keep_only(snapshot, at);
        self.device_types.keep_only(snapshot, at);
        self.structs.keep_only(seen, at);
        self.documents.keep_only(seen);
    }

    /// A record as policies see it.
    pub(super) fn json(&self, kind: &str, id: &str, now: Timestamp) -> Option<Arc<Value>> {
        let live = |record: &Arc<Value>| !has_expired(record, now);
        match kind {
            pb::session::Session::TYPE => self.sessions.json(id).filter(live),
            pb::user::User::TYPE => self.users.json(id),
            pb::user::ServiceAccount::TYPE => self.accounts.json(id).filter(live),
            pb::device::Credential::TYPE => self.credentials.json(id),
            pb::device::Enrollment::TYPE => self.enrollments.json(id),
            pb::device::Type::TYPE => self.device_types.json(id),
            _ => self.structs.get(kind, id).map(|entry| Arc::clone(&entry.data)),
        }
    }

    /// Whether there is a record that policies cannot see as it is, because some of it was left out.
    pub(super) fn withholds(&self, kind: &str, id: &str) -> bool {
        kind == pb::session::Session::TYPE && self.sessions.lacks(id, Parts::RECORD)
    }

    /// The record about the smallest network around an address.
    pub(super) fn json_at(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        self.structs
            .find(kind, address)
            .map(|entry| Arc::clone(&entry.data))
    }
}

fn is_typed(kind: &str) -> bool {
    [
        pb::session::Session::TYPE,
        pb::user::User::TYPE,
        pb::user::ServiceAccount::TYPE,
        pb::device::Credential::TYPE,
        pb::device::Enrollment::TYPE,
        pb::device::Type::TYPE,
    ]
    .contains(&kind)
}

/// Whether `expires_at` names a moment that has passed. The zero moments of the record format are none.
fn has_expired(record: &Value, now: Timestamp) -> bool {
    const YEAR_1971: i64 = 31_536_000;
    let seconds = record.pointer("/expires_at/seconds").and_then(Value::as_i64);
    seconds.is_some_and(|seconds| seconds >= YEAR_1971 && seconds <= now.as_second())
}
