//! What is in the file, for reading ([`Snapshot`]) and inside a write transaction ([`OpenTables`]).

use std::ops::Bound;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Options, Record, Versions};
use pomerium_api::records::from_proto_time;
use prost::Message;
use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition,
    TableError, WriteTransaction,
};

use super::unavailable;
use crate::apply::{Lease, Tables};
use crate::seal::{Place, Sealer};
use crate::store::{Changes, Counters, Inventory, Key, Records, Registered, Standing};

type LiveKey = (&'static str, &'static str);
type Change = (i64, &'static str, &'static [u8]);

/// Type and id → sealed record.
pub(super) const LIVE: TableDefinition<'_, LiveKey, &[u8]> = TableDefinition::new("live");
/// Version → time (µs since 1970), type, sealed record or tombstone.
pub(super) const LOG: TableDefinition<'_, u64, Change> = TableDefinition::new("log");
/// Type and version → id, of live records.
pub(super) const ORDER: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("order");
/// Type → options.
pub(super) const OPTIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("options");
/// Name → id and end (µs since 1970).
pub(super) const LEASES: TableDefinition<'_, &str, (&str, i64)> = TableDefinition::new("leases");
/// Kind and address of a service → end (µs since 1970).
pub(super) const SERVICES: TableDefinition<'_, (i32, &str), i64> = TableDefinition::new("services");
/// The counters, by name.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Whatever else the file says of itself, by name.
pub(super) const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// How many keys are looked at in one go.
const CHUNK: usize = 1000;

const SERVER_VERSION: &str = "server_version";
const LATEST: &str = "latest";
const TRIMMED: &str = "trimmed";
/// Standing and term. Absent in files from before there were copies.
const STANDING: &str = "standing";

pub(super) fn read_counters(numbers: &impl ReadableTable<&'static str, u64>) -> Result<Counters, Error> {
    let find = |name| -> Result<Option<u64>, Error> {
        let number = numbers.get(name).map_err(unavailable)?;
        Ok(number.map(|number| number.value()))
    };
    let read = |name| find(name)?.ok_or_else(|| unavailable(format_args!("{name} is missing")));
    let (standing, term) = find(STANDING)?.map_or((Standing::Own, 0), Counters::of_mark);
    Ok(Counters {
        server_version: read(SERVER_VERSION)?,
        latest: read(LATEST)?,
        trimmed: read(TRIMMED)?,
        standing,
        term,
    })
}

pub(super) fn write_counters(
    numbers: &mut Table<'_, &str, u64>,
    counters: Counters,
) -> Result<(), StorageError> {
    numbers.insert(SERVER_VERSION, counters.server_version)?;
    numbers.insert(LATEST, counters.latest)?;
    numbers.insert(TRIMMED, counters.trimmed)?;
    numbers.insert(STANDING, counters.mark())?;
    Ok(())
}

/// One live record. What is asked for most opens no other table.
pub(super) fn get(
    transaction: &ReadTransaction,
    sealer: &Sealer,
    record_type: &str,
    id: &str,
) -> Result<Option<Record>, Error> {
    let live = transaction.open_table(LIVE).map_err(unavailable)?;
    let value = live.get((record_type, id)).map_err(unavailable)?;
    value
        .map(|value| sealer.open(value.value(), &Place::Live { record_type, id }))
        .transpose()
}

/// The store as of one moment.
pub(super) struct Snapshot {
    live: ReadOnlyTable<LiveKey, &'static [u8]>,
    log: ReadOnlyTable<u64, Change>,
    options: ReadOnlyTable<&'static str, &'static [u8]>,
    /// Not there in files from before there were any, until the first report.
    services: Option<ReadOnlyTable<(i32, &'static str), i64>>,
    numbers: ReadOnlyTable<&'static str, u64>,
    sealer: Arc<Sealer>,
}

impl Snapshot {
    pub(super) fn new(transaction: &ReadTransaction, sealer: Arc<Sealer>) -> Result<Self, Error> {
        Ok(Self {
            live: transaction.open_table(LIVE).map_err(unavailable)?,
            log: transaction.open_table(LOG).map_err(unavailable)?,
            options: transaction.open_table(OPTIONS).map_err(unavailable)?,
            services: match transaction.open_table(SERVICES) {
                Ok(services) => Some(services),
                Err(TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(unavailable(error)),
            },
            numbers: transaction.open_table(NUMBERS).map_err(unavailable)?,
            sealer,
        })
    }

    pub(super) fn services(&self, now: Timestamp) -> Result<Vec<Registered>, Error> {
        let Some(services) = &self.services else {
            return Ok(Vec::new());
        };
        let mut services = read_services(services)?;
        services.retain(|service| service.expires > now);
        Ok(services)
    }

    pub(super) fn counters(&self) -> Result<Counters, Error> {
        read_counters(&self.numbers)
    }

    pub(super) fn options(&self, record_type: &str) -> Result<Option<Options>, Error> {
        read_options(&self.options, record_type)
    }

    /// Types that have live records: from one to the next, without reading what is between.
    pub(super) fn types(&self) -> Result<Vec<String>, Error> {
        let mut types: Vec<String> = Vec::new();
        loop {
            let from = types.last().map_or(String::new(), |last| format!("{last}\0"));
            let mut rows = self.live.range((from.as_str(), "")..).map_err(unavailable)?;
            match rows.next() {
                Some(row) => types.push(row.map_err(unavailable)?.0.value().0.to_owned()),
                None => return Ok(types),
            }
        }
    }

    pub(super) fn into_records(self, record_type: &str) -> Result<Records, Error> {
        let rows = self.rows(record_type)?;
        let sealer = self.sealer;
        let records = rows.filter_map(move |row| match row {
            Ok((key, value)) => open_or_skip(&sealer, &key, &value).map(Ok),
            Err(error) => Some(Err(error)),
        });
        Ok(stream::iter(records).boxed())
    }

    pub(super) fn changes(&self, record_type: &str, from: Versions, limit: usize) -> Result<Changes, Error> {
        self.counters()?.check(from)?;
        let mut changes = Changes {
            records: Vec::new(),
            seen: from.latest_record_version,
        };
        let rows = self
            .log
            .range(from.latest_record_version + 1..)
            .map_err(unavailable)?;
        for row in rows.take(limit) {
            let (version, change) = row.map_err(unavailable)?;
            changes.seen = version.value();
            let (_, changed_type, value) = change.value();
            if record_type.is_empty() || changed_type == record_type {
                // Not to be skipped: a reader that misses a change is wrong for good.
                changes
                    .records
                    .push(self.sealer.open(value, &Place::Change(changes.seen))?);
            }
        }
        Ok(changes)
    }

    fn rows(&self, record_type: &str) -> Result<impl Iterator<Item = Row> + Send + use<>, Error> {
        let wanted = record_type.to_owned();
        let rows = self.live.range((record_type, "")..).map_err(unavailable)?;
        Ok(rows
            .map(|row| row.map_err(unavailable))
            .take_while(move |row| match row {
                Ok((key, _)) => wanted.is_empty() || key.value().0 == wanted,
                Err(_) => true,
            }))
    }
}

type Row = Result<(AccessGuard<'static, LiveKey>, AccessGuard<'static, &'static [u8]>), Error>;

/// One record that cannot be read must not keep all others from being read.
fn open_or_skip(
    sealer: &Sealer,
    key: &AccessGuard<'_, LiveKey>,
    value: &AccessGuard<'_, &'static [u8]>,
) -> Option<Record> {
    let (record_type, id) = key.value();
    match sealer.open(value.value(), &Place::Live { record_type, id }) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(%error, "a record that cannot be read is left out");
            None
        }
    }
}

/// The tables inside a write transaction.
pub(super) struct OpenTables<'t> {
    live: Table<'t, LiveKey, &'static [u8]>,
    log: Table<'t, u64, Change>,
    order: Table<'t, (&'static str, u64), &'static str>,
    options: Table<'t, &'static str, &'static [u8]>,
    leases: Table<'t, &'static str, (&'static str, i64)>,
    services: Table<'t, (i32, &'static str), i64>,
    pub(super) numbers: Table<'t, &'static str, u64>,
    sealer: &'t Sealer,
}

impl<'t> OpenTables<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction, sealer: &'t Sealer) -> Result<Self, Error> {
        Ok(Self {
            live: transaction.open_table(LIVE).map_err(unavailable)?,
            log: transaction.open_table(LOG).map_err(unavailable)?,
            order: transaction.open_table(ORDER).map_err(unavailable)?,
            options: transaction.open_table(OPTIONS).map_err(unavailable)?,
            leases: transaction.open_table(LEASES).map_err(unavailable)?,
            services: transaction.open_table(SERVICES).map_err(unavailable)?,
            numbers: transaction.open_table(NUMBERS).map_err(unavailable)?,
            sealer,
        })
    }

    /// Puts every live record where its version belongs; for files from before there was an order.
    pub(super) fn order_all(&mut self) -> Result<(), Error> {
        let mut places = Vec::new();
        for row in self.live.iter().map_err(unavailable)? {
            let (key, value) = row.map_err(unavailable)?;
            if let Some(record) = open_or_skip(self.sealer, &key, &value) {
                places.push((record.r#type, record.version, record.id));
            }
        }
        for (record_type, version, id) in places {
            self.order
                .insert((record_type.as_str(), version), id.as_str())
                .map_err(unavailable)?;
        }
        Ok(())
    }

    /// Seals every value with the key of today. What cannot be opened is left as it is.
    pub(super) fn seal_anew(&mut self) -> Result<(), Error> {
        let mut after: Option<Key> = None;
        loop {
            let keys = self.between_at_most(after.as_ref(), None, CHUNK)?;
            let Some(last) = keys.last().cloned() else { break };
            for (record_type, id) in keys {
                let place = Place::Live {
                    record_type: &record_type,
                    id: &id,
                };
                let key = (record_type.as_str(), id.as_str());
                let value = self.live.get(key).map_err(unavailable)?;
                let renewed = value.and_then(|value| self.sealer.renewed(value.value(), &place));
                if let Some(renewed) = renewed {
                    self.live.insert(key, renewed.as_slice()).map_err(unavailable)?;
                }
            }
            after = Some(last);
        }
        let versions = self.log.iter().map_err(unavailable)?;
        let versions: Result<Vec<u64>, Error> = versions
            .map(|row| Ok(row.map_err(unavailable)?.0.value()))
            .collect();
        for version in versions? {
            let renewed = {
                let row = self.log.get(version).map_err(unavailable)?;
                row.and_then(|row| {
                    let (micros, record_type, value) = row.value();
                    let renewed = self.sealer.renewed(value, &Place::Change(version))?;
                    Some((micros, record_type.to_owned(), renewed))
                })
            };
            if let Some((micros, record_type, value)) = renewed {
                let change = (micros, record_type.as_str(), value.as_slice());
                self.log.insert(version, change).map_err(unavailable)?;
            }
        }
        Ok(())
    }

    fn between_at_most(&self, after: Option<&Key>, to: Option<&Key>, most: usize) -> Result<Vec<Key>, Error> {
        let start = after.map_or(Bound::Unbounded, |(record_type, id)| {
            Bound::Excluded((record_type.as_str(), id.as_str()))
        });
        let end = to.map_or(Bound::Unbounded, |(record_type, id)| {
            Bound::Included((record_type.as_str(), id.as_str()))
        });
        let rows = self
            .live
            .range::<(&str, &str)>((start, end))
            .map_err(unavailable)?;
        rows.take(most)
            .map(|row| {
                let (key, _) = row.map_err(unavailable)?;
                let (record_type, id) = key.value();
                Ok((record_type.to_owned(), id.to_owned()))
            })
            .collect()
    }

    /// Takes a record that is about to be replaced or removed out of the order.
    fn forget_order(&mut self, record_type: &str, id: &str) -> Result<(), Error> {
        let Some(before) = self.get(record_type, id)? else {
            return Ok(());
        };
        let place = (record_type, before.version);
        let own = self.order.get(place).map_err(unavailable)?;
        // While a copy is made, another record may have its place.
        if own.is_some_and(|owner| owner.value() == id) {
            self.order.remove(place).map_err(unavailable)?;
        }
        Ok(())
    }
}

impl Tables for OpenTables<'_> {
    fn get(&mut self, record_type: &str, id: &str) -> Result<Option<Record>, Error> {
        let value = self.live.get((record_type, id)).map_err(unavailable)?;
        value
            .map(|value| self.sealer.open(value.value(), &Place::Live { record_type, id }))
            .transpose()
    }

    fn insert(&mut self, record: &Record) -> Result<(), Error> {
        let (record_type, id) = (record.r#type.as_str(), record.id.as_str());
        self.forget_order(record_type, id)?;
        self.order
            .insert((record_type, record.version), id)
            .map_err(unavailable)?;
        let value = self.sealer.seal(record, &Place::Live { record_type, id });
        self.live
            .insert((record_type, id), value.as_slice())
            .map_err(unavailable)?;
        Ok(())
    }

    fn remove(&mut self, record_type: &str, id: &str) -> Result<(), Error> {
        self.forget_order(record_type, id)?;
        self.live.remove((record_type, id)).map_err(unavailable)?;
        Ok(())
    }

    fn append_change(&mut self, record: &Record) -> Result<(), Error> {
        let micros = record
            .modified_at
            .as_ref()
            .and_then(from_proto_time)
            .map_or(0, Timestamp::as_microsecond);
        let value = self.sealer.seal(record, &Place::Change(record.version));
        let change = (micros, record.r#type.as_str(), value.as_slice());
        self.log.insert(record.version, change).map_err(unavailable)?;
        Ok(())
    }

    fn trim_changes(&mut self, before: Timestamp) -> Result<(u64, Option<u64>), Error> {
        let (mut count, mut last) = (0, None);
        while let Some(version) = oldest_before(&self.log, before)? {
            self.log.remove(version).map_err(unavailable)?;
            last = Some(version);
            count += 1;
        }
        Ok((count, last))
    }

    fn count(&mut self, record_type: &str) -> Result<u64, Error> {
        let all = (record_type, 0)..=(record_type, u64::MAX);
        Ok(self.order.range(all).map_err(unavailable)?.count() as u64)
    }

    fn oldest(&mut self, record_type: &str) -> Result<Option<String>, Error> {
        let all = (record_type, 0)..=(record_type, u64::MAX);
        let mut rows = self.order.range(all).map_err(unavailable)?;
        let first = rows.next().transpose().map_err(unavailable)?;
        Ok(first.map(|(_, id)| id.value().to_owned()))
    }

    fn options(&mut self, record_type: &str) -> Result<Option<Options>, Error> {
        read_options(&self.options, record_type)
    }

    fn types_with_options(&mut self) -> Result<Vec<String>, Error> {
        let rows = self.options.iter().map_err(unavailable)?;
        rows.map(|row| Ok(row.map_err(unavailable)?.0.value().to_owned()))
            .collect()
    }

    fn set_options(&mut self, record_type: &str, options: Option<&Options>) -> Result<(), Error> {
        match options {
            Some(options) => self
                .options
                .insert(record_type, options.encode_to_vec().as_slice()),
            None => self.options.remove(record_type),
        }
        .map_err(unavailable)?;
        Ok(())
    }

    fn lease(&mut self, name: &str) -> Result<Option<Lease>, Error> {
        let held = self.leases.get(name).map_err(unavailable)?;
        Ok(held.map(|held| {
            let (id, micros) = held.value();
            Lease {
                id: id.to_owned(),
                expires: Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN),
            }
        }))
    }

    fn set_lease(&mut self, name: &str, lease: &Lease) -> Result<(), Error> {
        let value = (lease.id.as_str(), lease.expires.as_microsecond());
        self.leases.insert(name, value).map_err(unavailable)?;
        Ok(())
    }

    fn services(&mut self) -> Result<Vec<Registered>, Error> {
        read_services(&self.services)
    }

    fn set_service(&mut self, service: &Registered) -> Result<(), Error> {
        let key = (service.kind, service.endpoint.as_str());
        self.services
            .insert(key, service.expires.as_microsecond())
            .map_err(unavailable)?;
        Ok(())
    }

    fn remove_service(&mut self, service: &Registered) -> Result<(), Error> {
        let key = (service.kind, service.endpoint.as_str());
        self.services.remove(key).map_err(unavailable)?;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.live.retain(|_, _| false).map_err(unavailable)?;
        self.order.retain(|_, _| false).map_err(unavailable)?;
        self.options.retain(|_, _| false).map_err(unavailable)?;
        self.clear_changes()
    }

    fn clear_changes(&mut self) -> Result<(), Error> {
        self.log.retain(|_, _| false).map_err(unavailable)
    }

    fn between(&mut self, after: Option<&Key>, to: Option<&Key>) -> Result<Vec<Key>, Error> {
        self.between_at_most(after, to, usize::MAX)
    }
}

fn read_services(services: &impl ReadableTable<(i32, &'static str), i64>) -> Result<Vec<Registered>, Error> {
    let rows = services.iter().map_err(unavailable)?;
    rows.map(|row| {
        let (key, expires) = row.map_err(unavailable)?;
        let (kind, endpoint) = key.value();
        Ok(Registered {
            kind,
            endpoint: endpoint.to_owned(),
            expires: Timestamp::from_microsecond(expires.value()).unwrap_or(Timestamp::MIN),
        })
    })
    .collect()
}

fn read_options(
    options: &impl ReadableTable<&'static str, &'static [u8]>,
    record_type: &str,
) -> Result<Option<Options>, Error> {
    let value = options.get(record_type).map_err(unavailable)?;
    value
        .map(|value| {
            Options::decode(value.value()).map_err(|error| {
                unavailable(format_args!("the options of {record_type} are damaged: {error}"))
            })
        })
        .transpose()
}

impl Snapshot {
    /// Opens everything.
    pub(super) fn inspect(&self) -> Result<Inventory, Error> {
        let mut inventory = Inventory::default();
        for row in self.live.iter().map_err(unavailable)? {
            let (key, value) = row.map_err(unavailable)?;
            let (record_type, id) = key.value();
            match self.sealer.open(value.value(), &Place::Live { record_type, id }) {
                Ok(_) => *inventory.records.entry(record_type.to_owned()).or_default() += 1,
                Err(error) => inventory.unreadable.push(error.to_string()),
            }
        }
        for row in self.log.iter().map_err(unavailable)? {
            let (version, change) = row.map_err(unavailable)?;
            match self
                .sealer
                .open(change.value().2, &Place::Change(version.value()))
            {
                Ok(_) => inventory.changes += 1,
                Err(error) => inventory.unreadable.push(error.to_string()),
            }
        }
        Ok(inventory)
    }

    /// Whether the change log starts with an entry older than `before`.
    pub(super) fn has_older(&self, before: Timestamp) -> Result<bool, Error> {
        Ok(oldest_before(&self.log, before)?.is_some())
    }
}

/// The first entry of the log, if it is older than `before`.
fn oldest_before(log: &impl ReadableTable<u64, Change>, before: Timestamp) -> Result<Option<u64>, Error> {
    let first = log.first().map_err(unavailable)?;
    let old = first.filter(|(_, change)| change.value().0 < before.as_microsecond());
    Ok(old.map(|(version, _)| version.value()))
}
