//! What the steps of copying another databroker do to a store. Who takes them is [`crate::cluster`] for a
//! standby, [`crate::backup`] for a restore.

use std::collections::BTreeSet;

use pomerium_api::databroker::{Cleared, Error, Record};

use crate::apply::Tables;
use crate::store::{Copy, Counters, Key, Standing};

/// What every store has room for.
const LAST_TERM: u64 = 8_000;

pub(crate) fn apply(tables: &mut impl Tables, counters: &mut Counters, step: &Copy) -> Result<(), Error> {
    match step {
        Copy::Begin => {
            tables.clear_changes()?;
            // Of neither database: nobody takes the mixture for one of them.
            *counters = Counters {
                standing: Standing::Incomplete,
                term: counters.term,
                ..Counters::fresh()
            };
            Ok(())
        }
        Copy::Part { after, records, last } => {
            expect(counters, Standing::Incomplete)?;
            part(tables, after.as_ref(), records, *last)
        }
        Copy::Options(all) => {
            for (record_type, options) in all {
                tables.set_options(record_type, options.as_ref())?;
            }
            Ok(())
        }
        Copy::End { versions, term } => {
            expect(counters, Standing::Incomplete)?;
            *counters = Counters {
                server_version: versions.server_version,
                latest: versions.latest_record_version,
                trimmed: versions.latest_record_version,
                standing: Standing::Copy,
                term: *term,
            };
            Ok(())
        }
        Copy::Changes(records) => {
            expect(counters, Standing::Copy)?;
            records
                .iter()
                .try_for_each(|record| change(tables, counters, record))
        }
    }
}

/// A copy gets a name of its own, so that whoever knew more of the other database than was copied starts over. The
/// versions go on: none is given out twice.
pub(crate) fn promote(counters: &mut Counters) -> Result<Cleared, Error> {
    expect(counters, Standing::Copy)?;
    if counters.term >= LAST_TERM {
        return Err(Error::Invalid(format!(
            "these records were promoted {} times, which is as often as can be counted: restore a backup of them into a \
             new store",
            counters.term
        )));
    }
    let old = counters.server_version;
    let new = loop {
        let new = Counters::fresh().server_version;
        if new != old {
            break new;
        }
    };
    counters.server_version = new;
    counters.standing = Standing::Own;
    counters.term += 1;
    Ok(Cleared { old, new })
}

fn expect(counters: &Counters, wanted: Standing) -> Result<(), Error> {
    if counters.standing == wanted {
        return Ok(());
    }
    Err(Error::Invalid(match counters.standing {
        Standing::Own => "the records here are no copy of another databroker's".into(),
        Standing::Incomplete => {
            "the copy of the other databroker's records is not complete: it was never finished, or is being renewed"
                .into()
        }
        Standing::Copy => "the copy is complete already".into(),
    }))
}

fn key(record: &Record) -> Key {
    (record.r#type.clone(), record.id.clone())
}

/// Whatever the other has not between the part before and the end of this one is not there any more.
fn part(tables: &mut impl Tables, after: Option<&Key>, records: &[Record], last: bool) -> Result<(), Error> {
    let keys: Vec<Key> = records.iter().map(key).collect();
    let in_order = after
        .into_iter()
        .chain(&keys)
        .is_sorted_by(|one, next| one < next);
    if !in_order {
        return Err(Error::Invalid(
            "the records to be copied do not come in order".into(),
        ));
    }
    let to = keys.last().filter(|_| !last);
    if to.is_none() && !last {
        return Ok(());
    }
    let there: BTreeSet<&Key> = keys.iter().collect();
    for old in tables.between(after, to)? {
        if !there.contains(&old) {
            tables.remove(&old.0, &old.1)?;
        }
    }
    records.iter().try_for_each(|record| tables.insert(record))
}

fn change(tables: &mut impl Tables, counters: &mut Counters, record: &Record) -> Result<(), Error> {
    if record.version <= counters.latest {
        return Ok(());
    }
    match record.deleted_at {
        Some(_) => tables.remove(&record.r#type, &record.id)?,
        None => tables.insert(record)?,
    }
    tables.append_change(record)?;
    counters.latest = record.version;
    Ok(())
}
