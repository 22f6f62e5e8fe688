//! One table of records of one type, decoded for as long as somebody works with them: lock-free to read; written only under the lock of
//! [`super::SyncedRecords`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapWeak;
use prost::Message as _;
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
    /// Server version of the database and the last version of the record that was seen.
    fn at(&self) -> Versions;
    /// The message.
    fn message(&self) -> &Self::Message;
    /// Notes that a later version says the same.
    fn confirm(&self, version: u64);
    /// Whether `later` differs from the message in nothing but the moment of the last use.
    fn only_used_since(&self, later: &Self::Message) -> bool;
}

/// The last version of a record that said the same as the entry. It is no part of what the entry says.
#[derive(Debug, Default)]
pub struct Confirmed(AtomicU64);

impl Clone for Confirmed {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }
}

impl PartialEq for Confirmed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

macro_rules! entry {
    ($(#[$doc:meta])* $name:ident, $field:ident, $message:ty $(, used: $used:ident)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// The record's version; grows with each change of the record that counts. That it was used is none.
            pub version: u64,
            /// Identity of the database the record was read from.
            pub server_version: u64,
            /// The decoded message. When it was used last is as of `version`.
            pub $field: $message,
            /// The last version that said the same.
            pub confirmed: Confirmed,
        }

        impl Entry for $name {
            type Message = $message;
            fn new(at: Versions, $field: $message) -> Self {
                Self {
                    version: at.latest_record_version,
                    server_version: at.server_version,
                    $field,
                    confirmed: Confirmed::default(),
                }
            }
            fn at(&self) -> Versions {
                let confirmed = self.confirmed.0.load(Ordering::Acquire);
                Versions {
                    server_version: self.server_version,
                    latest_record_version: self.version.max(confirmed),
                }
            }
            fn message(&self) -> &$message {
                &self.$field
            }
            fn confirm(&self, version: u64) {
                self.confirmed.0.fetch_max(version, Ordering::AcqRel);
            }
            fn only_used_since(&self, later: &$message) -> bool {
                $(
                    if later.$used != self.$field.$used {
                        let mut same = later.clone();
                        same.$used.clone_from(&self.$field.$used);
                        return same == self.$field;
                    }
                )?
                let _ = later;
                false
            }
        }
    };
}

entry!(
    /// A session as last seen.
    SessionEntry, session, pb::session::Session, used: accessed_at
);
entry!(
    /// A user as last seen.
    UserEntry, user, pb::user::User
);
entry!(
    /// A service account as last seen.
    ServiceAccountEntry, account, pb::user::ServiceAccount, used: accessed_at
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
pub(super) struct Table<E>(papaya::HashMap<Box<str>, Slot<E>, foldhash::fast::RandomState>);

/// A record as it came: most are of people who are not here just now, and decoded they take several times the room.
struct Slot<E> {
    at: Versions,
    /// The last version that said the same.
    confirmed: AtomicU64,
    encoded: Box<[u8]>,
    /// The entry, as long as somebody has it: the same one for everybody, so that it tells by its address whether
    /// anything has changed.
    entry: ArcSwapWeak<E>,
    /// The same as JSON, made for the first policy that asks.
    json: OnceLock<Option<Arc<Value>>>,
}

impl<E: Entry> Slot<E> {
    fn new(at: Versions, encoded: &[u8]) -> Self {
        Self {
            at,
            confirmed: AtomicU64::new(at.latest_record_version),
            encoded: encoded.into(),
            entry: ArcSwapWeak::default(),
            json: OnceLock::new(),
        }
    }

    fn at(&self) -> Versions {
        Versions {
            server_version: self.at.server_version,
            latest_record_version: self.confirmed.load(Ordering::Acquire),
        }
    }

    /// The one entry there is of it, or a new one.
    fn entry(&self) -> Option<Arc<E>> {
        loop {
            let known = self.entry.load();
            if let Some(entry) = known.upgrade() {
                return Some(entry);
            }
            let entry = Arc::new(E::new(self.at, self.message()?));
            entry.confirm(self.confirmed.load(Ordering::Acquire));
            let before = self.entry.compare_and_swap(&*known, Arc::downgrade(&entry));
            // Else somebody was faster: theirs is the one.
            if Weak::ptr_eq(&before, &known) {
                return Some(entry);
            }
        }
    }

    /// It was decoded once before it came here.
    fn message(&self) -> Option<E::Message> {
        E::Message::decode(&*self.encoded).ok()
    }

    /// Whether `later` differs in nothing but the moment of the last use.
    fn only_used_since(&self, later: &E::Message) -> bool {
        self.message()
            .is_some_and(|message| E::new(self.at, message).only_used_since(later))
    }

    /// Notes that a later version says the same.
    fn confirm(&self, version: u64) {
        self.confirmed.fetch_max(version, Ordering::AcqRel);
        if let Some(entry) = self.entry.load().upgrade() {
            entry.confirm(version);
        }
    }
}

impl<E: Entry> Table<E> {
    pub(super) fn new() -> Self {
        Self(papaya::HashMap::with_hasher(
            foldhash::fast::RandomState::default(),
        ))
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<E>> {
        self.0.pin().get(id)?.entry()
    }

    /// The record as policies see it.
    pub(super) fn json(&self, id: &str) -> Option<Arc<Value>> {
        let table = self.0.pin();
        let slot = table.get(id)?;
        let make = || json::from_message(&slot.message()?).map(Arc::new);
        slot.json.get_or_init(make).clone()
    }

    /// Takes over a live record or a tombstone. An older version than the one known is left out; a record
    /// that cannot be decoded is removed, because what it says now is not what was known. That a record was used
    /// leaves its entry as it is, so that everything remembered about it stays good.
    ///
    /// Whether it may say something else now.
    pub(super) fn apply(&self, server_version: u64, record: &Record) -> Result<bool, Error> {
        let at = Versions {
            server_version,
            latest_record_version: record.version,
        };
        let table = self.0.pin();
        let known = table.get(record.id.as_str());
        if known.is_some_and(|known| is_older(at, known.at())) {
            return Ok(false);
        }
        if record.deleted_at.is_some() {
            table.remove(record.id.as_str());
            return Ok(true);
        }
        match from_record::<E::Message>(record) {
            Ok(message) => {
                if let Some(known) = known
                    && known.at.server_version == server_version
                    && known.only_used_since(&message)
                {
                    known.confirm(record.version);
                    return Ok(false);
                }
                let encoded = record.data.as_ref().map_or(&[][..], |data| &data.value);
                table.insert(record.id.as_str().into(), Slot::new(at, encoded));
                Ok(true)
            }
            Err(error) => {
                table.remove(record.id.as_str());
                Err(error)
            }
        }
    }

    /// Keeps what a complete snapshot taken at `at` named, and what is newer than it.
    pub(super) fn keep_only(&self, seen: &HashSet<String>, at: Versions) {
        self.0
            .pin()
            .retain(|id, slot| seen.contains(&**id) || is_older(at, slot.at()));
    }
}

/// Whether `a` is an earlier place than `b` in the same database.
pub(super) fn is_older(a: Versions, b: Versions) -> bool {
    a.server_version == b.server_version && a.latest_record_version < b.latest_record_version
}
