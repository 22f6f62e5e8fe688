//! What a write means, once for the stores of this program (spec databroker.md 3, 4, 7): versions, tombstones, the change
//! log, patches, capacity, time to live, leases.

use std::ops::Bound;
use std::time::Duration;

use jiff::Timestamp;
use pomerium_api::databroker::{Cleared, Error, LeaseRequest, Options, PutReply, Record};
use pomerium_api::described;
use pomerium_api::records::{from_proto_time, to_proto_time};

use crate::store::{Counters, Key, Registered, Standing, Write, Written, says_nothing, ttl};
use crate::{copy, limits};

/// The tables of a store, inside one transaction.
pub(crate) trait Tables {
    /// The live record. Errors with [`Error::Damaged`] when it is there and cannot be read.
    fn get(&mut self, record_type: &str, id: &str) -> Result<Option<Record>, Error>;
    /// The version of the live record, however it is.
    fn version(&mut self, record_type: &str, id: &str) -> Result<Option<u64>, Error>;
    /// When the live record was last written, as far as that is known without opening it.
    fn written(&mut self, record_type: &str, id: &str) -> Result<Option<Timestamp>, Error>;
    fn insert(&mut self, record: &Record) -> Result<(), Error>;
    fn remove(&mut self, record_type: &str, id: &str) -> Result<(), Error>;
    fn append_change(&mut self, record: &Record) -> Result<(), Error>;
    /// Drops changes older than `before`, from the first on until one is not older, but not that of version `newest`;
    /// returns how many, and the last version dropped.
    fn trim_changes(&mut self, before: Timestamp, newest: u64) -> Result<(u64, Option<u64>), Error>;
    /// How many live records a type has.
    fn count(&mut self, record_type: &str) -> Result<u64, Error>;
    /// Version and id of the live record of a type that was written longest ago, of those after a version.
    fn oldest(&mut self, record_type: &str, after: Option<u64>) -> Result<Option<(u64, String)>, Error>;
    fn options(&mut self, record_type: &str) -> Result<Option<Options>, Error>;
    /// The types that have options.
    fn types_with_options(&mut self) -> Result<Vec<String>, Error>;
    /// `None` forgets them.
    fn set_options(&mut self, record_type: &str, options: Option<&Options>) -> Result<(), Error>;
    fn lease(&mut self, name: &str) -> Result<Option<Lease>, Error>;
    fn set_lease(&mut self, name: &str, lease: &Lease) -> Result<(), Error>;
    /// Forgets leases that ended before this, or some of them.
    fn forget_leases(&mut self, before: Timestamp) -> Result<(), Error>;
    /// Every service that was reported, also those whose time is over.
    fn services(&mut self) -> Result<Vec<Registered>, Error>;
    fn set_service(&mut self, service: &Registered) -> Result<(), Error>;
    fn remove_service(&mut self, service: &Registered) -> Result<(), Error>;
    /// Records, changes and options; not leases and services.
    fn clear(&mut self) -> Result<(), Error>;
    /// The change log alone.
    fn clear_changes(&mut self) -> Result<(), Error>;
    /// Live records behind `after`, up to and with `to`; without them from the first, or to the last.
    fn between(&mut self, after: Option<&Key>, to: Option<&Key>) -> Result<Vec<Key>, Error>;
}

/// The versions after one, or all of them.
pub(crate) fn behind(after: Option<u64>) -> (Bound<u64>, Bound<u64>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

/// When a record was last written; one that does not say so was written before all others.
pub(crate) fn written_at(record: &Record) -> Timestamp {
    let at = record.modified_at.as_ref().and_then(from_proto_time);
    at.unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How many records one write lets go that it was not about: others write in between, and what it writes has a bound. The
/// next clean-up goes on.
pub(crate) const MOST_EXPIRED: u64 = 1_000;

/// How long a lease that has ended is kept: its name may be asked for again and again.
const LEASES_KEPT: Duration = Duration::from_secs(60 * 60);

/// Who holds a lease, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) expires: Timestamp,
}

/// Carries out one write. On an error the transaction must be thrown away, with the counters.
pub(crate) fn apply(
    tables: &mut impl Tables,
    counters: &mut Counters,
    write: &Write,
    now: Timestamp,
) -> Result<Written, Error> {
    let of_its_own = !matches!(write, Write::Copy(_) | Write::Promote | Write::Trim(_));
    if of_its_own && counters.standing != Standing::Own {
        return Err(Error::Invalid(
            "the records here are a copy of another databroker's: writes go to that one, or the copy is promoted"
                .into(),
        ));
    }
    match write {
        Write::Put(records) => {
            let mut stored = Vec::with_capacity(records.len());
            for record in records {
                stored.push(put(tables, counters, record.clone(), now)?);
            }
            reply(tables, counters, stored, now)
        }
        Write::Replace(record) => {
            let live = tables.version(&record.r#type, &record.id)?;
            // No record has version 0: there it stands for none.
            if live.unwrap_or(0) != record.version {
                return Ok(Written::Replaced(None));
            }
            put(tables, counters, record.clone(), now).map(|record| Written::Replaced(Some(record)))
        }
        Write::Patch { records, mask } => {
            let mut stored = Vec::with_capacity(records.len());
            for record in patched(tables, records, mask)? {
                stored.push(put(tables, counters, record, now)?);
            }
            reply(tables, counters, stored, now)
        }
        Write::SetOptions { record_type, options } => {
            tables.set_options(record_type, (!says_nothing(options)).then_some(options))?;
            Ok(Written::Done)
        }
        Write::Lease(request) => lease(tables, request, now).map(Written::Leased),
        Write::ReleaseLease { name, id } => {
            if let Some(held) = tables.lease(name)?
                && held.id == *id
            {
                let expires = Timestamp::MIN;
                tables.set_lease(name, &Lease { expires, ..held })?;
            }
            Ok(Written::Done)
        }
        Write::Report { services, ttl } => {
            forget_services(tables, now)?;
            let expires = now.checked_add(*ttl).unwrap_or(Timestamp::MAX);
            for service in services {
                let endpoint = service.endpoint.clone();
                let kind = service.kind;
                tables.set_service(&Registered {
                    kind,
                    endpoint,
                    expires,
                })?;
            }
            Ok(Written::Done)
        }
        Write::Clear => {
            tables.clear()?;
            let old = counters.server_version;
            *counters = Counters {
                term: counters.term,
                ..Counters::fresh()
            };
            let new = counters.server_version;
            Ok(Written::Cleared(Cleared { old, new }))
        }
        Write::Trim(before) => {
            // The newest stays: how far back the log reaches is never behind its end.
            let (count, last) = tables.trim_changes(*before, counters.latest)?;
            counters.trimmed = last.unwrap_or(counters.trimmed);
            Ok(Written::Trimmed(count))
        }
        Write::Expire => expire(tables, counters, now).map(Written::Trimmed),
        Write::Copy(step) => copy::apply(tables, counters, step).map(|()| Written::Done),
        Write::Promote => copy::promote(counters).map(Written::Cleared),
    }
}

/// The reply to a write of records, after the types it touched are back within their capacity.
fn reply(
    tables: &mut impl Tables,
    counters: &mut Counters,
    records: Vec<Record>,
    now: Timestamp,
) -> Result<Written, Error> {
    let mut types: Vec<&str> = records.iter().map(|record| record.r#type.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    // What there is too much of beside what was written, as after a capacity was set: the clean-up takes the rest.
    let most = records.len() as u64 + MOST_EXPIRED;
    for record_type in types {
        let Some(options) = tables.options(record_type)? else {
            continue;
        };
        for _ in 0..surplus(tables, record_type, &options)?.min(most) {
            if let Some((_, id)) = tables.oldest(record_type, None)? {
                evict(tables, counters, (record_type, id), now)?;
            }
        }
    }
    Ok(Written::Put(PutReply {
        server_version: counters.server_version,
        records,
    }))
}

fn evict(
    tables: &mut impl Tables,
    counters: &mut Counters,
    (record_type, id): (&str, String),
    now: Timestamp,
) -> Result<(), Error> {
    let gone = Record {
        r#type: record_type.to_owned(),
        id,
        ..Record::default()
    };
    delete(tables, counters, gone, now).map(drop)
}

/// How many records of a type there are beyond its capacity.
fn surplus(tables: &mut impl Tables, record_type: &str, options: &Options) -> Result<u64, Error> {
    match options.capacity {
        Some(capacity) => Ok(tables.count(record_type)?.saturating_sub(capacity)),
        None => Ok(0),
    }
}

/// Deletes records that were last written before their time to live began, and those that their type has no room for, at
/// most [`MOST_EXPIRED`]; how many.
fn expire(tables: &mut impl Tables, counters: &mut Counters, now: Timestamp) -> Result<u64, Error> {
    forget_services(tables, now)?;
    let mut count = 0;
    for record_type in tables.types_with_options()? {
        let Some(options) = tables.options(&record_type)? else {
            continue;
        };
        let before = ttl(&options).and_then(|ttl| now.checked_sub(ttl).ok());
        let mut surplus = surplus(tables, &record_type, &options)?;
        let mut passed = None;
        while count < MOST_EXPIRED
            && let Some((version, id)) = tables.oldest(&record_type, passed)?
        {
            if surplus == 0 {
                match is_over(tables, (&record_type, &id), before)? {
                    Some(true) => {}
                    Some(false) => break,
                    // It stays; those after it have times of their own.
                    None => {
                        passed = Some(version);
                        continue;
                    }
                }
            }
            evict(tables, counters, (&record_type, id), now)?;
            surplus = surplus.saturating_sub(1);
            count += 1;
        }
    }
    Ok(count)
}

/// Whether a record was last written before that moment; `None` when nobody knows. Without a moment it stays.
fn is_over(
    tables: &mut impl Tables,
    (record_type, id): (&str, &str),
    before: Option<Timestamp>,
) -> Result<Option<bool>, Error> {
    let Some(before) = before else {
        return Ok(Some(false));
    };
    let written = tables.written(record_type, id)?;
    Ok(written.map(|written| written < before))
}

/// Forgets services whose time is over; returns how many.
fn forget_services(tables: &mut impl Tables, now: Timestamp) -> Result<(), Error> {
    for service in tables.services()? {
        if service.expires <= now {
            tables.remove_service(&service)?;
        }
    }
    Ok(())
}

/// The records that a patch makes of the live ones, before any of them is written.
fn patched(tables: &mut impl Tables, records: &[Record], mask: &[String]) -> Result<Vec<Record>, Error> {
    let mut done: Vec<Record> = Vec::with_capacity(records.len());
    for record in records {
        // One call may patch one record twice.
        let same = |earlier: &&Record| earlier.r#type == record.r#type && earlier.id == record.id;
        let live = match done.iter().rev().find(same) {
            Some(earlier) => Some(earlier.clone()),
            None => match tables.get(&record.r#type, &record.id) {
                // To delete it, its key is enough.
                Err(Error::Damaged(_)) if record.deleted_at.is_some() => Some(Record::default()),
                live => live?,
            },
        };
        let Some(live) = live.filter(|live| live.deleted_at.is_none()) else {
            continue;
        };
        let data = match (&live.data, &record.data) {
            // A deletion may come as a patch.
            _ if mask.is_empty() || record.deleted_at.is_some() => live.data,
            (Some(live), Some(new)) => Some(described::patched(live, new, mask)?),
            _ => {
                let what = format!("record {} cannot be patched: there is no data", record.id);
                return Err(Error::Invalid(what));
            }
        };
        let record = Record {
            data,
            ..record.clone()
        };
        limits::size(&record)?;
        done.push(record);
    }
    Ok(done)
}

/// Whoever names the id that holds it renews it; once its time is over anybody may have it.
fn lease(tables: &mut impl Tables, request: &LeaseRequest, now: Timestamp) -> Result<Option<String>, Error> {
    let expires = now.checked_add(request.ttl).unwrap_or(Timestamp::MAX);
    let held = tables.lease(&request.name)?.filter(|held| held.expires >= now);
    if held.is_some_and(|held| request.id.as_ref() != Some(&held.id)) {
        return Ok(None);
    }
    let id = match &request.id {
        Some(id) => id.clone(),
        None => uuid::Builder::from_random_bytes(pomerium_crypto::random::bytes())
            .into_uuid()
            .to_string(),
    };
    let lease = Lease {
        id: id.clone(),
        expires,
    };
    tables.set_lease(&request.name, &lease)?;
    if let Ok(before) = now.checked_sub(LEASES_KEPT) {
        tables.forget_leases(before)?;
    }
    Ok(Some(id))
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

/// The tombstone keeps the data last stored, so that readers of the change log know what went; that of a record that cannot be
/// read has none. A record that is not there needs no tombstone and takes no version.
fn delete(
    tables: &mut impl Tables,
    counters: &mut Counters,
    mut record: Record,
    now: Timestamp,
) -> Result<Record, Error> {
    let data = match tables.get(&record.r#type, &record.id) {
        Ok(Some(live)) => live.data,
        Ok(None) => {
            record.version = 0;
            return Ok(record);
        }
        Err(Error::Damaged(_)) => None,
        Err(error) => return Err(error),
    };
    counters.latest += 1;
    record.version = counters.latest;
    record.data = data;
    record.modified_at = Some(to_proto_time(now));
    record.deleted_at = Some(to_proto_time(now));
    tables.remove(&record.r#type, &record.id)?;
    tables.append_change(&record)?;
    Ok(record)
}
