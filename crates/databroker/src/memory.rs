//! Records in memory, gone at exit. For tests, demos, and those who want no state on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::RwLock;
use pomerium_api::databroker::{Error, Page, Record, Versions};
use pomerium_api::records::from_proto_time;
use tokio::sync::watch;

use crate::apply::{Tables, apply};
use crate::store::{Changes, Counters, Records, Store, Write, Written};

/// A [`Store`] in memory.
pub struct MemoryStore {
    state: RwLock<State>,
    changed: watch::Sender<()>,
}

struct State {
    counters: Counters,
    rows: Rows,
}

#[derive(Default)]
struct Rows {
    /// By type, then by id.
    live: BTreeMap<String, BTreeMap<String, Arc<Record>>>,
    log: BTreeMap<u64, Arc<Record>>,
}

impl MemoryStore {
    /// An empty one, with a new server version.
    pub fn new() -> Self {
        let state = State {
            counters: Counters::fresh(),
            rows: Rows::default(),
        };
        Self {
            state: RwLock::new(state),
            changed: watch::Sender::new(()),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Rows {
    fn of_type<'a>(&'a self, record_type: &'a str) -> impl Iterator<Item = &'a Arc<Record>> {
        self.live
            .iter()
            .filter(move |(name, _)| record_type.is_empty() || *name == record_type)
            .flat_map(|(_, records)| records.values())
    }
}

impl Tables for Rows {
    fn get(&mut self, record_type: &str, id: &str) -> Result<Option<Record>, Error> {
        Ok(self
            .live
            .get(record_type)
            .and_then(|records| records.get(id))
            .map(|record| (**record).clone()))
    }

    fn insert(&mut self, record: &Record) -> Result<(), Error> {
        let records = self.live.entry(record.r#type.clone()).or_default();
        records.insert(record.id.clone(), Arc::new(record.clone()));
        Ok(())
    }

    fn remove(&mut self, record_type: &str, id: &str) -> Result<(), Error> {
        if let Some(records) = self.live.get_mut(record_type) {
            records.remove(id);
        }
        Ok(())
    }

    fn append_change(&mut self, record: &Record) -> Result<(), Error> {
        self.log.insert(record.version, Arc::new(record.clone()));
        Ok(())
    }

    fn trim_changes(&mut self, before: Timestamp) -> Result<(u64, Option<u64>), Error> {
        let (mut count, mut last) = (0, None);
        while let Some(entry) = self.log.first_entry() {
            let modified_at = entry.get().modified_at.as_ref().and_then(from_proto_time);
            if modified_at.is_some_and(|at| at >= before) {
                break;
            }
            last = Some(*entry.key());
            count += 1;
            entry.remove();
        }
        Ok((count, last))
    }

    fn clear(&mut self) -> Result<(), Error> {
        *self = Self::default();
        Ok(())
    }
}

impl Store for MemoryStore {
    fn counters(&self) -> Result<Counters, Error> {
        Ok(self.state.read().counters)
    }

    fn get(&self, record_type: &str, id: &str) -> Result<Option<Record>, Error> {
        let state = self.state.read();
        let found = state
            .rows
            .live
            .get(record_type)
            .and_then(|records| records.get(id))
            .cloned();
        drop(state);
        Ok(found.map(Arc::unwrap_or_clone))
    }

    fn list(&self, record_type: &str, offset: u64, limit: u64) -> Result<Page, Error> {
        let (offset, limit) = (clamp(offset), clamp(limit));
        let state = self.state.read();
        let found = state.rows.of_type(record_type);
        Ok(Page {
            records: found
                .skip(offset)
                .take(limit)
                .map(|record| (**record).clone())
                .collect(),
            total: state.rows.of_type(record_type).count() as u64,
            versions: state.counters.versions(),
        })
    }

    fn latest(&self, record_type: &str) -> Result<(Versions, Records), Error> {
        let state = self.state.read();
        let records: Vec<_> = state.rows.of_type(record_type).cloned().collect();
        let versions = state.counters.versions();
        drop(state);
        Ok((
            versions,
            Box::new(records.into_iter().map(|record| Ok(Arc::unwrap_or_clone(record)))),
        ))
    }

    fn changes(&self, record_type: &str, from: Versions, limit: usize) -> Result<Changes, Error> {
        let state = self.state.read();
        state.counters.check(from)?;
        let mut changes = Changes {
            records: Vec::new(),
            seen: from.latest_record_version,
        };
        for (version, record) in state.rows.log.range(from.latest_record_version + 1..).take(limit) {
            changes.seen = *version;
            if record_type.is_empty() || record.r#type == record_type {
                changes.records.push((**record).clone());
            }
        }
        Ok(changes)
    }

    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
        let mut state = self.state.write();
        let State { counters, rows } = &mut *state;
        // Cannot fail half-way: nothing here fails.
        let written = apply(rows, counters, &write, now);
        drop(state);
        self.changed.send_replace(());
        Box::pin(std::future::ready(written))
    }

    fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;

    crate::conformance::conformance!((MemoryStore::new(), ()));
}
