//! One table of decoded records of one type: lock-free to read; written only under the lock of
//! [`super::SyncedRecords`].

use std::collections::HashSet;
use std::sync::Arc;

use crate::databroker::{Error, Record, Versions};
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

/// Entries by record id.
pub(super) struct Table<E>(papaya::HashMap<String, Arc<E>, foldhash::fast::RandomState>);

impl<E: Entry> Table<E> {
    pub(super) fn new() -> Self {
        Self(papaya::HashMap::with_hasher(
            foldhash::fast::RandomState::default(),
        ))
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<E>> {
        self.0.pin().get(id).cloned()
    }

    /// Takes over a live record or a tombstone. An older version than the one known is left out; a record
    /// that cannot be decoded is removed, because what it says now is not what was known.
    pub(super) fn apply(&self, server_version: u64, record: &Record) -> Result<(), Error> {
        let at = Versions {
            server_version,
            latest_record_version: record.version,
        };
        let table = self.0.pin();
        let known = table.get(&record.id).map(|entry| entry.at());
        if known.is_some_and(|known| is_older(at, known)) {
            return Ok(());
        }
        if record.deleted_at.is_some() {
            table.remove(&record.id);
            return Ok(());
        }
        match from_record::<E::Message>(record) {
            Ok(message) => {
                table.insert(record.id.clone(), Arc::new(E::new(at, message)));
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
            .retain(|id, entry| seen.contains(id) || is_older(at, entry.at()));
    }
}

/// Whether `a` is an earlier place than `b` in the same database.
fn is_older(a: Versions, b: Versions) -> bool {
    a.server_version == b.server_version && a.latest_record_version < b.latest_record_version
}
