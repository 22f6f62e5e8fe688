//! One table of records of one type: lock-free to read; written only under the lock of [`super::SyncedRecords`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::entry::Entry;
use super::parts::Parts;
use super::slot::Slot;
use crate::databroker::{Error, Record, Versions};
use crate::records::from_record;

/// How a record comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// The database it was read from.
    pub(super) server_version: u64,
    /// What of it is kept.
    pub(super) keep: Parts,
    /// The snapshot that names it, if one does.
    pub(super) snapshot: Option<u32>,
}

impl Arrival {
    fn at(self, record: &Record) -> Versions {
        Versions {
            server_version: self.server_version,
            latest_record_version: record.version,
        }
    }
}

/// Entries by record id.
pub(super) struct Table<E>(papaya::HashMap<Box<str>, Slot<E>, foldhash::fast::RandomState>);

impl<E: Entry> Table<E> {
    pub(super) fn new() -> Self {
        Self(papaya::HashMap::with_hasher(
            foldhash::fast::RandomState::default(),
        ))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<E>> {
        self.0.pin().get(id)?.entry()
    }

    /// The record as policies see it; none of a record of which anything was left out.
    pub(super) fn json(&self, id: &str) -> Option<Arc<Value>> {
        let table = self.0.pin();
        table.get(id).filter(|slot| slot.left_out == Parts::NONE)?.json()
    }

    /// Whether there is a record of which any of `parts` was left out.
    pub(super) fn lacks(&self, id: &str, parts: Parts) -> bool {
        self.0.pin().get(id).is_some_and(|slot| slot.left_out.any(parts))
    }

    /// Takes over a live record or a tombstone. An older version than the one known is left out; a record
    /// that cannot be decoded is removed, because what it says now is not what was known. That a record was used
    /// leaves its entry as it is, so that everything remembered about it stays good.
    ///
    /// Whether it may say something else now.
    pub(super) fn apply(&self, arrival: Arrival, record: &Record) -> Result<bool, Error> {
        let at = arrival.at(record);
        let table = self.0.pin();
        let known = table.get(record.id.as_str());
        if let Some(known) = known {
            known.name(arrival.snapshot);
            if is_older(at, known.at()) {
                return Ok(false);
            }
        }
        if record.deleted_at.is_some() {
            table.remove(record.id.as_str());
            return Ok(true);
        }
        match from_record::<E::Message>(record) {
            Ok(mut message) => {
                let left_out = E::narrow(&mut message, arrival.keep);
                if let Some(known) = known
                    && known.at.server_version == at.server_version
                    && known.left_out == left_out
                    && known.only_used_since(&message)
                {
                    known.confirm(record.version);
                    return Ok(false);
                }
                let slot = Slot::new(at, &message, left_out);
                slot.name(known.map(|known| known.snapshot.load(Ordering::Relaxed)));
                slot.name(arrival.snapshot);
                table.insert(record.id.as_str().into(), slot);
                Ok(true)
            }
            Err(error) => {
                table.remove(record.id.as_str());
                Err(error)
            }
        }
    }

    /// Takes from a record what was left out of the same version of it, which must be there. Nothing else changes by
    /// it: not what is there, nor how new it is.
    ///
    /// Whether that version is there.
    pub(super) fn complete(&self, arrival: Arrival, record: &Record) -> bool {
        let table = self.0.pin();
        let known = table.get(record.id.as_str());
        let same = |known: &&Slot<E>| known.at() == arrival.at(record) && record.deleted_at.is_none();
        let Some(known) = known.filter(same) else {
            return false;
        };
        if !known.left_out.any(arrival.keep) {
            return true;
        }
        let Ok(mut message) = from_record::<E::Message>(record) else {
            return false;
        };
        let left_out = E::narrow(&mut message, arrival.keep);
        let slot = Slot::new(known.at, &message, left_out);
        slot.confirm(record.version);
        slot.name(Some(known.snapshot.load(Ordering::Relaxed)));
        table.insert(record.id.as_str().into(), slot);
        true
    }

    /// Keeps what a complete `snapshot` taken at `at` named, and what is newer than it.
    pub(super) fn keep_only(&self, snapshot: u32, at: Versions) {
        self.0
            .pin()
            .retain(|_, slot| slot.snapshot.load(Ordering::Relaxed) == snapshot || is_older(at, slot.at()));
    }
}

/// Whether `a` is an earlier place than `b` in the same database.
pub(super) fn is_older(a: Versions, b: Versions) -> bool {
    a.server_version == b.server_version && a.latest_record_version < b.latest_record_version
}
