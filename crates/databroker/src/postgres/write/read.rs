//! What a write may touch, read before it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use deadpool_postgres::ClientWrapper;
use futures_util::join;
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Record};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::turn::{BEGIN, prepared};
use crate::apply::{Lease, MOST_EXPIRED};
use crate::postgres::migrate::{signed, unsigned};
use crate::postgres::overlay::{Ages, Live, Overlay};
use crate::postgres::read::{OPTIONS, options_of, services};
use crate::postgres::unavailable;
use crate::seal::{Place, Sealer};
use crate::store::{Copy, Key, Registered, Write, ttl};

const LIVE: &str = "SELECT r.type, r.id, r.version, r.value FROM pomerium_rs.records r
     JOIN unnest($1::text[], $2::text[]) AS k(type, id) ON r.type = k.type AND r.id = k.id";

/// Begins the transaction, and reads the row that `counters` asks for and what the write may touch.
pub(super) async fn run(
    client: &ClientWrapper,
    counters: &str,
    sealer: &Sealer,
    (write, now): (&Write, Timestamp),
) -> Result<(Row, Overlay), Error> {
    let counters = prepared(client, counters).await?;
    let mut overlay = Overlay::default();
    let row = match write {
        Write::Put(records) => {
            // What a record was before counts only where it goes.
            let gone = records.iter().filter(|record| record.deleted_at.is_some());
            let row = begin_with_live(client, &counters, (sealer, keys(gone)), &mut overlay).await?;
            read_ages(client, sealer, records, &mut overlay).await?;
            row
        }
        Write::Patch { records, .. } => {
            let row = begin_with_live(client, &counters, (sealer, keys(records)), &mut overlay).await?;
            read_ages(client, sealer, records, &mut overlay).await?;
            row
        }
        Write::Replace(record) => {
            begin_with_live(client, &counters, (sealer, keys([record])), &mut overlay).await?
        }
        _ => {
            let (begun, row) = join!(client.batch_execute(BEGIN), client.query_one(&counters, &[]));
            begun.map_err(|error| unavailable(&error))?;
            let row = row.map_err(|error| unavailable(&error))?;
            read_more(client, sealer, (write, now), &mut overlay).await?;
            row
        }
    };
    Ok((row, overlay))
}

fn keys<'r>(records: impl IntoIterator<Item = &'r Record>) -> BTreeSet<Key> {
    let records = records.into_iter();
    records
        .map(|record| (record.r#type.clone(), record.id.clone()))
        .collect()
}

/// Begins, and reads the live records of these keys, and the options. The server looks at nothing before it has the turn:
/// it answers in the order it is asked.
async fn begin_with_live(
    client: &ClientWrapper,
    counters: &Statement,
    (sealer, keys): (&Sealer, BTreeSet<Key>),
    overlay: &mut Overlay,
) -> Result<Row, Error> {
    let live = prepared(client, LIVE).await?;
    let options = prepared(client, OPTIONS).await?;
    let (begun, row, live, options) = join!(
        client.batch_execute(BEGIN),
        client.query_one(counters, &[]),
        read_live(client, &live, &keys),
        client.query(&options, &[]),
    );
    begun.map_err(|error| unavailable(&error))?;
    let row = row.map_err(|error| unavailable(&error))?;
    note_live(keys, &live?, sealer, overlay);
    overlay.options = options_of(&options.map_err(|error| unavailable(&error))?)?;
    Ok(row)
}

async fn read_live(
    client: &ClientWrapper,
    live: &Statement,
    keys: &BTreeSet<Key>,
) -> Result<Vec<Row>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (types, ids): (Vec<&str>, Vec<&str>) = keys
        .iter()
        .map(|(record_type, id)| (record_type.as_str(), id.as_str()))
        .unzip();
    let wanted: [&(dyn ToSql + Sync); 2] = [&types, &ids];
    let rows = client.query(live, &wanted).await;
    rows.map_err(|error| unavailable(&error))
}

fn note_live(keys: BTreeSet<Key>, rows: &[Row], sealer: &Sealer, overlay: &mut Overlay) {
    overlay.live.extend(keys.into_iter().map(|key| (key, None)));
    for row in rows {
        let key: Key = (row.get(0), row.get(1));
        let live = open_live(sealer, &key, (row.get(2), row.get(3)));
        overlay.live.insert(key, Some(live));
    }
}

/// A live record, of this version. One that cannot be read may be what the write makes an end of.
fn open_live(sealer: &Sealer, (record_type, id): &Key, (version, value): (i64, &[u8])) -> Live {
    match sealer.open(value, &Place::Live { record_type, id }) {
        Ok(record) => Live::Whole(record),
        Err(why) => Live::Damaged {
            version: unsigned(version),
            why,
        },
    }
}

/// What the other writes may touch.
async fn read_more(
    client: &ClientWrapper,
    sealer: &Sealer,
    (write, now): (&Write, Timestamp),
    overlay: &mut Overlay,
) -> Result<(), Error> {
    match write {
        Write::Put(_) | Write::Patch { .. } | Write::Replace(_) => {}
        Write::SetOptions { .. } => read_options(client, overlay).await?,
        Write::Lease(request) => read_lease(client, &request.name, overlay).await?,
        Write::ReleaseLease { name, .. } => read_lease(client, name, overlay).await?,
        Write::Copy(Copy::Part { after, records, last }) => {
            let to = records.last().filter(|_| !last);
            read_between(client, after.as_ref(), to, overlay).await?;
        }
        Write::Copy(_) | Write::Clear | Write::Promote => {}
        Write::Report { .. } => read_services(client, overlay).await?,
        Write::Trim(before) => read_old_changes(client, *before, overlay).await?,
        Write::Expire => {
            read_options(client, overlay).await?;
            read_services(client, overlay).await?;
            read_expired(client, sealer, now, overlay).await?;
        }
    }
    Ok(())
}

async fn read_options(client: &ClientWrapper, overlay: &mut Overlay) -> Result<(), Error> {
    let options = prepared(client, OPTIONS).await?;
    let rows = client
        .query(&options, &[])
        .await
        .map_err(|error| unavailable(&error))?;
    overlay.options = options_of(&rows)?;
    Ok(())
}

/// The keys of live records behind `after`, up to and with `to`.
async fn read_between(
    client: &ClientWrapper,
    after: Option<&Key>,
    to: Option<&Record>,
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let (after_type, after_id) = after.map(|(record_type, id)| (record_type, id)).unzip();
    let (to_type, to_id) = to.map(|record| (&record.r#type, &record.id)).unzip();
    let rows = client
        .query(
            "SELECT type, id FROM pomerium_rs.records
             WHERE ($1::text IS NULL OR (type, id) > ($1, $2)) AND ($3::text IS NULL OR (type, id) <= ($3, $4))",
            &[&after_type, &after_id, &to_type, &to_id],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    overlay.between = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(())
}

/// For each type with a capacity, which of the records are there, and as many of the oldest as this write can drive out.
async fn read_ages(
    client: &ClientWrapper,
    sealer: &Sealer,
    records: &[Record],
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let types: BTreeSet<&str> = records.iter().map(|record| record.r#type.as_str()).collect();
    for record_type in types {
        let capacity = overlay
            .options
            .get(record_type)
            .and_then(|options| options.capacity);
        let Some(capacity) = capacity else { continue };
        let mut unknown = keys(records.iter().filter(|record| record.r#type == record_type));
        unknown.retain(|key| !overlay.live.contains_key(key));
        let live = prepared(client, LIVE).await?;
        let rows = read_live(client, &live, &unknown).await?;
        note_live(unknown, &rows, sealer, overlay);
        let count = read_count(client, record_type).await?;
        let written = records.len() as u64;
        let surplus = (count + written).saturating_sub(capacity);
        // Some of the oldest may be those that are written.
        let most = surplus.min(written + MOST_EXPIRED) + written;
        let oldest = read_oldest(client, sealer, record_type, most, overlay).await?;
        overlay
            .ages
            .insert(record_type.to_owned(), Ages { count, oldest });
    }
    Ok(())
}

async fn read_oldest(
    client: &ClientWrapper,
    sealer: &Sealer,
    record_type: &str,
    most: u64,
    overlay: &mut Overlay,
) -> Result<BTreeMap<u64, (String, Timestamp)>, Error> {
    let rows = client
        .query(
            "SELECT id, version, value, modified_at FROM pomerium_rs.records WHERE type = $1 ORDER BY version LIMIT $2",
            &[&record_type, &i64::try_from(most).unwrap_or(i64::MAX)],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    let mut ids = BTreeMap::new();
    for row in rows {
        let (id, version): (String, i64) = (row.get(0), row.get(1));
        let written = Timestamp::try_from(row.get::<_, SystemTime>(3)).unwrap_or(Timestamp::UNIX_EPOCH);
        ids.insert(unsigned(version), (id.clone(), written));
        let key = (record_type.to_owned(), id);
        let live = open_live(sealer, &key, (version, row.get(2)));
        overlay.live.insert(key, Some(live));
    }
    Ok(ids)
}

/// How many live records a type has.
async fn read_count(client: &ClientWrapper, record_type: &str) -> Result<u64, Error> {
    let row = client
        .query_one(
            "SELECT count(*) FROM pomerium_rs.records WHERE type = $1",
            &[&record_type],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(unsigned(row.get(0)))
}

/// The records whose time is over or that there is no room for, of one type after another, as many as one write lets go.
async fn read_expired(
    client: &ClientWrapper,
    sealer: &Sealer,
    now: Timestamp,
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let limited: Vec<(String, Option<u64>, Option<Timestamp>)> = overlay
        .options
        .iter()
        .map(|(record_type, options)| {
            let before = ttl(options).and_then(|ttl| now.checked_sub(ttl).ok());
            (record_type.clone(), options.capacity, before)
        })
        .collect();
    let mut left = MOST_EXPIRED;
    for (record_type, capacity, before) in limited {
        let mut ages = Ages::default();
        let mut gone = 0;
        if let Some(capacity) = capacity {
            ages.count = read_count(client, &record_type).await?;
            gone = ages.count.saturating_sub(capacity);
        }
        if let Some(before) = before {
            gone = gone.max(read_old(client, &record_type, before, left).await?);
        }
        let gone = gone.min(left);
        if gone > 0 {
            ages.oldest = read_oldest(client, sealer, &record_type, gone, overlay).await?;
        }
        left -= gone;
        overlay.ages.insert(record_type, ages);
    }
    Ok(())
}

/// How many records of a type were last written before a moment, if they are fewer than `most`.
async fn read_old(
    client: &ClientWrapper,
    record_type: &str,
    before: Timestamp,
    most: u64,
) -> Result<u64, Error> {
    let row = client
        .query_one(
            "SELECT count(*) FROM (SELECT 1 FROM pomerium_rs.records WHERE type = $1 AND modified_at < $2 LIMIT $3) old",
            &[&record_type, &SystemTime::from(before), &signed(most)],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(unsigned(row.get(0)))
}

async fn read_lease(client: &ClientWrapper, name: &str, overlay: &mut Overlay) -> Result<(), Error> {
    // Whoever comes second waits here, also when there is no row yet.
    client
        .execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('pomerium_rs.lease.' || $1, 0))",
            &[&name],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    let row = client
        .query_opt(
            "SELECT id, expires FROM pomerium_rs.leases WHERE name = $1",
            &[&name],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    if let Some(row) = row {
        let expires = Timestamp::try_from(row.get::<_, SystemTime>(1)).unwrap_or(Timestamp::MIN);
        let id = row.get(0);
        overlay.leases.insert(name.to_owned(), Lease { id, expires });
    }
    Ok(())
}

async fn read_services(client: &ClientWrapper, overlay: &mut Overlay) -> Result<(), Error> {
    let known = services(&**client, Timestamp::UNIX_EPOCH).await?;
    let by_key = |service: Registered| ((service.kind, service.endpoint), service.expires);
    overlay.services = known.into_iter().map(by_key).collect();
    Ok(())
}

async fn read_old_changes(
    client: &ClientWrapper,
    before: Timestamp,
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let row = client
        .query_one(
            // The newest stays.
            "SELECT count(*), max(version) FROM pomerium_rs.changes WHERE version < least(
             (SELECT min(version) FROM pomerium_rs.changes WHERE modified_at >= $1),
             (SELECT max(version) FROM pomerium_rs.changes))",
            &[&SystemTime::from(before)],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    overlay.old_changes = (unsigned(row.get(0)), row.get::<_, Option<i64>>(1).map(unsigned));
    Ok(())
}
