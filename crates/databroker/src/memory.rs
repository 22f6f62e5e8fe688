//! Records in memory, gone at exit. For tests, demos, and those who want no state on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use parking_lot::RwLock;
use pomerium_api::databroker::{Error, Options, Page, Query, Record, Versions};
use pomerium_api::records::from_proto_time;
use tokio::sync::watch;

use crate::apply::{Lease, Tables, apply, behind, written_at};
use crate::query;
use crate::store::{Changes, Counters, Inventory, Key, Records, Registered, Store, Write, Written};

/// A [`Store`] in memory.
pub struct MemoryStore {
    state: RwLock<State>,
    changed: watch::Sender<()>,
    services_changed: watch::Sender<()>,
}

struct State {
    counters: Counters,
    rows: Rows,
}

#[derive(Default)]
struct Rows {
    /// By type, then by id.
    live: BTreeMap<String, BTreeMap<String, Arc<Record>>>,
    /// By type, then by version: the id.
    by_version: BTreeMap<String, BTreeMap<u64, String>>,
    log: BTreeMap<u64, Arc<Record>>,
    options: BTreeMap<String, Options>,
    leases: BTreeMap<String, Lease>,
    /// By kind and address: until when.
    services: BTreeMap<(i32, String), Timestamp>,
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
            services_changed: watch::Sender::new(()),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Rows {
    fn live(&self, record_type: &str, id: &str) -> Option<&Arc<Record>> {
        self.live.get(record_type)?.get(id)
    }

    fn of_type<'a>(&'a self, record_type: &'a str) -> impl Iterator<Item = &'a Arc<Record>> {
        self.live
            .iter()
            .filter(move |(name, _)| record_type.is_empty() || *name == record_type)
            .flat_map(|(_, records)| records.values())
    }

    fn registered(&self, now: Timestamp) -> Vec<Registered> {
        let known = self.services.iter().filter(|(_, expires)| **expires > now);
        known
            .map(|((kind, endpoint), expires)| Registered {
                kind: *kind,
                endpoint: endpoint.clone(),
                expires: *expires,
            })
            .collect()
    }
}

/// Takes a record out of the order; while a copy is made, another one may have its place.
fn forget(order: &mut BTreeMap<u64, String>, record: &Record) {
    if order.get(&record.version).is_some_and(|id| *id == record.id) {
        order.remove(&record.version);
    }
}

impl Tables for Rows {
    fn get(&mut self, record_type: &str, id: &str) -> Result<Option<Record>, Error> {
        Ok(self.live(record_type, id).map(|record| (**record).clone()))
    }

    fn version(&mut self, record_type: &str, id: &str) -> Result<Option<u64>, Error> {
        Ok(self.live(record_type, id).map(|record| record.version))
    }

    fn written(&mut self, record_type: &str, id: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.live(record_type, id).map(|record| written_at(record)))
    }

    fn insert(&mut self, record: &Record) -> Result<(), Error> {
        let records = self.live.entry(record.r#type.clone()).or_default();
        let before = records.insert(record.id.clone(), Arc::new(record.clone()));
        let order = self.by_version.entry(record.r#type.clone()).or_default();
        if let Some(before) = before {
            forget(order, &before);
        }
        order.insert(record.version, record.id.clone());
        Ok(())
    }

    fn remove(&mut self, record_type: &str, id: &str) -> Result<(), Error> {
        let Some(records) = self.live.get_mut(record_type) else {
            return Ok(());
        };
        let gone = records.remove(id);
        if records.is_empty() {
            self.live.remove(record_type);
        }
        if let (Some(gone), Some(order)) = (gone, self.by_version.get_mut(record_type)) {
            forget(order, &gone);
        }
        Ok(())
    }

    fn append_change(&mut self, record: &Record) -> Result<(), Error> {
        self.log.insert(record.version, Arc::new(record.clone()));
        Ok(())
    }

    fn trim_changes(&mut self, before: Timestamp, newest: u64) -> Result<(u64, Option<u64>), Error> {
        let (mut count, mut last) = (0, None);
        while let Some(entry) = self.log.first_entry() {
            let modified_at = entry.get().modified_at.as_ref().and_then(from_proto_time);
            if *entry.key() >= newest || modified_at.is_some_and(|at| at >= before) {
                break;
            }
            last = Some(*entry.key());
            count += 1;
            entry.remove();
        }
        Ok((count, last))
    }

    fn count(&mut self, record_type: &str) -> Result<u64, Error> {
        Ok(self.live.get(record_type).map_or(0, BTreeMap::len) as u64)
    }

    fn oldest(&mut self, record_type: &str, after: Option<u64>) -> Result<Option<(u64, String)>, Error> {
        let order = self.by_version.get(record_type);
        Ok(order
            .and_then(|order| order.range(behind(after)).next())
            .map(|(version, id)| (*version, id.clone())))
    }

    fn options(&mut self, record_type: &str) -> Result<Option<Options>, Error> {
        Ok(self.options.get(record_type).cloned())
    }

    fn types_with_options(&mut self) -> Result<Vec<String>, Error> {
        Ok(self.options.keys().cloned().collect())
    }

    fn set_options(&mut self, record_type: &str, options: Option<&Options>) -> Result<(), Error> {
        match options {
            Some(options) => self.options.insert(record_type.to_owned(), options.clone()),
            None => self.options.remove(record_type),
        };
        Ok(())
    }

    fn lease(&mut self, name: &str) -> Result<Option<Lease>, Error> {
        Ok(self.leases.get(name).cloned())
    }

    fn set_lease(&mut self, name: &str, lease: &Lease) -> Result<(), Error> {
        self.leases.insert(name.to_owned(), lease.clone());
        Ok(())
    }

    fn forget_leases(&mut self, before: Timestamp) -> Result<(), Error> {
        self.leases.retain(|_, lease| lease.expires >= before);
        Ok(())
    }

    fn services(&mut self) -> Result<Vec<Registered>, Error> {
        Ok(self.registered(Timestamp::MIN))
    }

    fn set_service(&mut self, service: &Registered) -> Result<(), Error> {
        let key = (service.kind, service.endpoint.clone());
        self.services.insert(key, service.expires);
        Ok(())
    }

    fn remove_service(&mut self, service: &Registered) -> Result<(), Error> {
        self.services.remove(&(service.kind, service.endpoint.clone()));
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Error> {
        *self = Self {
            leases: std::mem::take(&mut self.leases),
            services: std::mem::take(&mut self.services),
            ..Self::default()
        };
        Ok(())
    }

    fn clear_changes(&mut self) -> Result<(), Error> {
        self.log.clear();
        Ok(())
    }

    fn between(&mut self, after: Option<&Key>, to: Option<&Key>) -> Result<Vec<Key>, Error> {
        let all = self
            .live
            .iter()
            .flat_map(|(record_type, records)| records.keys().map(|id| (record_type.clone(), id.clone())));
        Ok(all
            .filter(|key| after.is_none_or(|after| key > after) && to.is_none_or(|to| key <= to))
            .collect())
    }
}

impl State {
    fn changes(&self, record_type: &str, from: Versions, limit: usize) -> Result<Changes, Error> {
        self.counters.check(from)?;
        let mut changes = Changes {
            records: Vec::new(),
            seen: from.latest_record_version,
        };
        for (version, record) in self.rows.log.range(from.latest_record_version + 1..).take(limit) {
            changes.seen = *version;
            if record_type.is_empty() || record.r#type == record_type {
                changes.records.push((**record).clone());
            }
        }
        Ok(changes)
    }
}

impl Store for MemoryStore {
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>> {
        ready(Ok(self.state.read().counters)).boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        let state = self.state.read();
        let records = state.rows.live.get(record_type);
        let found = records.and_then(|records| records.get(id)).cloned();
        ready(Ok(found.map(Arc::unwrap_or_clone))).boxed()
    }

    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>> {
        query::scan(self, query).boxed()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        ready(Ok(self.state.read().rows.live.keys().cloned().collect())).boxed()
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        ready(Ok(self.state.read().rows.options.get(record_type).cloned())).boxed()
    }

    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        ready(Ok(self.state.read().rows.options.clone())).boxed()
    }

    fn services(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Registered>, Error>> {
        ready(Ok(self.state.read().rows.registered(now))).boxed()
    }

    fn watch_services(&self) -> watch::Receiver<()> {
        self.services_changed.subscribe()
    }

    fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>> {
        let state = self.state.read();
        let records: Vec<_> = state.rows.of_type(record_type).cloned().collect();
        let versions = state.counters.versions();
        drop(state);
        let records = stream::iter(records.into_iter().map(|record| Ok(Arc::unwrap_or_clone(record))));
        ready(Ok((versions, records.boxed()))).boxed()
    }

    fn changes<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Changes, Error>> {
        ready(self.state.read().changes(record_type, from, limit)).boxed()
    }

    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
        let mut state = self.state.write();
        let State { counters, rows } = &mut *state;
        // Cannot fail half-way: what can fail does so before the first change.
        let written = apply(rows, counters, &write, now);
        drop(state);
        self.changed.send_replace(());
        if matches!(write, Write::Report { .. }) {
            self.services_changed.send_replace(());
        }
        Box::pin(std::future::ready(written))
    }

    fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Inventory, Error>> {
        let state = self.state.read();
        let count =
            |(record_type, records): (&String, &BTreeMap<_, _>)| (record_type.clone(), records.len() as u64);
        let inventory = Inventory {
            records: state.rows.live.iter().map(count).collect(),
            changes: state.rows.log.len() as u64,
            unreadable: Vec::new(),
        };
        ready(Ok(inventory)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pomerium_api::databroker::LeaseRequest;

    use super::MemoryStore;
    use crate::conformance::Subject;

    crate::conformance::conformance!((MemoryStore::new(), ()));

    #[tokio::test]
    async fn leases_that_ended_long_ago_go() {
        let subject = Subject::new(MemoryStore::new());
        for name in ["old", "older", "new"] {
            let request = LeaseRequest {
                name: name.into(),
                ttl: Duration::from_secs(30),
                id: None,
            };
            assert!(subject.broker.lease(request).await.unwrap().is_some());
            subject.clock.advance(Duration::from_secs(45 * 60));
        }
        let state = subject.server.store().state.read();
        let names: Vec<&String> = state.rows.leases.keys().collect();
        assert_eq!(names, ["new", "older"]);
    }
}
