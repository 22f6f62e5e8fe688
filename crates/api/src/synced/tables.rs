//! Every table, and which record goes into which.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::documents::Documents;
use super::structs::Structs;
use super::table::{
    CredentialEntry, DeviceTypeEntry, EnrollmentEntry, ServiceAccountEntry, SessionEntry, Table, UserEntry,
};
use crate::config_records;
use crate::databroker::{Error, Record, Versions};
use crate::pb;
use crate::records::{RecordMessage, STRUCT};

/// Ids by type, of what a snapshot named.
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
    pub(super) fn apply(&self, server_version: u64, record: &Record) -> Result<bool, Error> {
        match record.r#type.as_str() {
            pb::session::Session::TYPE => self.sessions.apply(server_version, record),
            pb::user::User::TYPE => self.users.apply(server_version, record),
            pb::user::ServiceAccount::TYPE => self.accounts.apply(server_version, record),
            pb::device::Credential::TYPE => self.credentials.apply(server_version, record),
            pb::device::Enrollment::TYPE => self.enrollments.apply(server_version, record),
            pb::device::Type::TYPE => self.device_types.apply(server_version, record),
            kind if kind.starts_with(config_records::PREFIX) => {
                self.documents.apply(record);
                Ok(true)
            }
            _ => self.structs.apply(server_version, record).map(|()| true),
        }
    }

    /// Notes a record of a snapshot, unless nothing of its sort is kept anyway.
    pub(super) fn note(seen: &mut Seen, record: Record) {
        let free = record.data.as_ref().is_some_and(|data| data.type_url == STRUCT);
        if free || is_typed(&record.r#type) {
            seen.entry(record.r#type).or_default().insert(record.id);
        }
    }

    /// Keeps what a complete snapshot taken at `at` named, and what is newer than it.
    pub(super) fn keep_only(&self, seen: &Seen, at: Versions) {
        let none = HashSet::new();
        let named = |kind: &str| seen.get(kind).unwrap_or(&none);
        self.sessions.keep_only(named(pb::session::Session::TYPE), at);
        self.users.keep_only(named(pb::user::User::TYPE), at);
        self.accounts.keep_only(named(pb::user::ServiceAccount::TYPE), at);
        self.credentials
            .keep_only(named(pb::device::Credential::TYPE), at);
        self.enrollments
            .keep_only(named(pb::device::Enrollment::TYPE), at);
        self.device_types.keep_only(named(pb::device::Type::TYPE), at);
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

    /// The record about the smallest network around an address.
    pub(super) fn json_at(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        self.structs
            .find(kind, address)
            .map(|entry| Arc::clone(&entry.data))
    }
}

fn is_typed(kind: &str) -> bool {
    kind.starts_with(config_records::PREFIX)
        || [
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
