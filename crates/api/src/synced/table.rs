//! One table of decoded records of one type: lock-free to read; written only under the lock of
//! [`super::SyncedRecords`].

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::databroker::{Error, Record, Versions};
use crate::json;
use crate::pb;
use crate::records::{RecordMessage, from_record};

/// A decoded record with the place in the databroker it was read at.
pub trait Entry: Send + Sync + 'static {
    /// The message inside.
    type Message: RecordMessage;
    /// Joins a message with its place.
    fn new(at: Versions, message: Self::Message) -> Self;
    /// Server version of the database and version of the record.
    fn at(&self) -> Versions;
    /// The message.
    fn message(&self) -> &Self::Message;
}

macro_rules! entry {
    ($(#[$doc:meta])* $name:ident, $field:ident, $message:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// The record's version; grows with each change of the record.
            pub version: u64,
            /// Identity of the database the record was read from.
            pub server_version: u64,
            /// The decoded message.
            pub $field: $message,
        }

        impl Entry for $name {
            type Message = $message;
            fn new(at: Versions, $field: $message) -> Self {
                Self { version: at.latest_record_version, server_version: at.server_version, $field }
            }
            fn at(&self) -> Versions {
                Versions { server_version: self.server_version, latest_record_version: self.version }
            }
            fn message(&self) -> &$message {
                &self.$field
            }
        }
    };
}

entry!(
    /// A session as last seen.
    SessionEntry, session, pb::session::Session
);
entry!(
    /// A user as last seen.
    UserEntry, user, pb::user::User
);
entry!(
    /// A service account as last seen.
    ServiceAccountEntry, account, pb::user::ServiceAccount
);

entry!(
    /// A device credential as last seen.
    CredentialEntry, credential, pb::device::Credential
);
entry!(
    /// The enrollment of a device as last seen.
    EnrollmentEntry, enrollment, pb::device::Enrollment
);
entry!(
    /// A device type as last seen.
    DeviceTypeEntry, device_type, pb::device::Type
);

/// Entries by record id.
pub(super) struct Table<E>(papaya::HashMap<String, Slot<E>, foldhash::fast::RandomState>);

struct Slot<E> {
    entry: Arc<E>,
    /// The same as JSON, made for the first policy that asks.
    json: OnceLock<Option<Arc<Value>>>,
}

impl<E: Entry> Table<E> {
    pub(super) fn new() -> Self {
        Self(papaya::HashMap::with_hasher(
            foldhash::fast::RandomState::default(),
        ))
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<E>> {
        self.0.pin().get(id).map(|slot| Arc::clone(&slot.entry))
    }

    /// The record as policies see it.
    pub(super) fn json(&self, id: &str) -> Option<Arc<Value>> {
        let table = self.0.pin();
        let slot = table.get(id)?;
        let make = || json::from_message(slot.entry.message()).map(Arc::new);
        slot.json.get_or_init(make).clone()
    }

    /// Takes over a live record or a tombstone. An older version than the one known is left out; a record
    /// that cannot be decoded is removed, because what it says now is not what was known.
    pub(super) fn apply(&self, server_version: u64, record: &Record) -> Result<(), Error> {
        let at = Versions {
            server_version,
            latest_record_version: record.version,
        };
        let table = self.0.pin();
        let known = table.get(&record.id).map(|slot| slot.entry.at());
        if known.is_some_and(|known| is_older(at, known)) {
            return Ok(());
        }
        if record.deleted_at.is_some() {
            table.remove(&record.id);
            return Ok(());
        }
        match from_record::<E::Message>(record) {
            Ok(message) => {
                let slot = Slot {
                    entry: Arc::new(E::new(at, message)),
                    json: OnceLock::new(),
                };
                table.insert(record.id.clone(), slot);
                Ok(())
            }
            Err(error) => {
                table.remove(&record.id);
                Err(error)
            }
        }
    }

    /// Keeps what a complete snapshot taken at `at` named, and what is newer than it.
    pub(super) fn keep_only(&self, seen: &HashSet<String>, at: Versions) {
        self.0
            .pin()
            .retain(|id, slot| seen.contains(id) || is_older(at, slot.entry.at()));
    }
}

/// Whether `a` is an earlier place than `b` in the same database.
pub(super) fn is_older(a: Versions, b: Versions) -> bool {
    a.server_version == b.server_version && a.latest_record_version < b.latest_record_version
}
