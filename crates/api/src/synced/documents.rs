//! Configuration records as they came. Few, read whole, and only when one of them has changed; written only
//! under the lock of [`super::SyncedRecords`].

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::tables::Seen;
use crate::databroker::Record;

/// Type and id.
type Key = (String, String);

#[derive(Debug)]
pub(super) struct Documents {
    records: Mutex<BTreeMap<Key, Arc<Record>>>,
    changes: watch::Sender<u64>,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Documents {
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        self.records.lock().values().cloned().collect()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes over a live record or a tombstone.
    pub(super) fn apply(&self, record: &Record) {
        let key = (record.r#type.clone(), record.id.clone());
        let mut records = self.records.lock();
        if record.deleted_at.is_some() {
            records.remove(&key);
        } else {
            records.insert(key, Arc::new(record.clone()));
        }
        drop(records);
        self.changed();
    }

    /// Keeps what a complete snapshot named.
    pub(super) fn keep_only(&self, seen: &Seen) {
        let mut records = self.records.lock();
        let before = records.len();
        records.retain(|(kind, id), _| seen.get(kind).is_some_and(|ids| ids.contains(id)));
        let gone = before != records.len();
        drop(records);
        if gone {
            self.changed();
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
