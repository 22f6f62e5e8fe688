//! What a write means, once for all stores (spec databroker.md 3, 4): versions, tombstones, the change log.

use jiff::Timestamp;
use pomerium_api::databroker::{Error, PutReply, Record};
use pomerium_api::records::to_proto_time;

use crate::store::{Counters, Write, Written};

/// The tables of a store, inside one transaction.
pub(crate) trait Tables {
    fn get(&mut self, record_type: &str, id: &str) -> Result<Option<Record>, Error>;
    fn insert(&mut self, record: &Record) -> Result<(), Error>;
    fn remove(&mut self, record_type: &str, id: &str) -> Result<(), Error>;
    fn append_change(&mut self, record: &Record) -> Result<(), Error>;
    /// Drops changes older than `before`, from the first on until one is not older; returns how many, and
    /// the last version dropped.
    fn trim_changes(&mut self, before: Timestamp) -> Result<(u64, Option<u64>), Error>;
    fn clear(&mut self) -> Result<(), Error>;
}

/// Carries out one write. On an error the transaction must be thrown away, with the counters.
pub(crate) fn apply(
    tables: &mut impl Tables,
    counters: &mut Counters,
    write: &Write,
    now: Timestamp,
) -> Result<Written, Error> {
    match write {
        Write::Put(records) => {
            let mut stored = Vec::with_capacity(records.len());
            for record in records {
                stored.push(put(tables, counters, record.clone(), now)?);
            }
            Ok(Written::Put(PutReply {
                server_version: counters.server_version,
                records: stored,
            }))
        }
        Write::Replace(record) => {
            let live = tables.get(&record.r#type, &record.id)?;
            if live.is_none_or(|live| live.version != record.version) {
                return Ok(Written::Replaced(None));
            }
            put(tables, counters, record.clone(), now).map(|record| Written::Replaced(Some(record)))
        }
        Write::Clear => {
            tables.clear()?;
            *counters = Counters::fresh();
            Ok(Written::Cleared(counters.server_version))
        }
        Write::Trim(before) => {
            let (count, last) = tables.trim_changes(*before)?;
            counters.trimmed = last.unwrap_or(counters.trimmed);
            Ok(Written::Trimmed(count))
        }
    }
}

fn put(
    tables: &mut impl Tables,
    counters: &mut Counters,
    mut record: Record,
    now: Timestamp,
) -> Result<Record, Error> {
    record.modified_at = Some(to_proto_time(now));
    if record.deleted_at.is_some() {
        return delete(tables, counters, record, now);
    }
    counters.latest += 1;
    record.version = counters.latest;
    tables.insert(&record)?;
    tables.append_change(&record)?;
    Ok(record)
}

/// The tombstone keeps the data last stored, so that readers of the change log know what went. A record
/// that is not there needs none and takes no version.
fn delete(
    tables: &mut impl Tables,
    counters: &mut Counters,
    mut record: Record,
    now: Timestamp,
) -> Result<Record, Error> {
    let Some(live) = tables.get(&record.r#type, &record.id)? else {
        record.version = 0;
        return Ok(record);
    };
    counters.latest += 1;
    record.version = counters.latest;
    record.data = live.data;
    record.deleted_at = Some(to_proto_time(now));
    tables.remove(&record.r#type, &record.id)?;
    tables.append_change(&record)?;
    Ok(record)
}
