//! Reading: single records, pages of all records, the change log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use deadpool_postgres::{Object, Pool};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Options, Record, Versions};
use prost::Message;
use tokio_postgres::{GenericClient, IsolationLevel, Row};

use super::migrate::{signed, unsigned};
use super::{in_time, unavailable};
use crate::limits;
use crate::seal::{Place, Sealer};
use crate::store::{Changes, Counters, Inventory, Key, Records, Registered};

/// How many records are read in one go.
const PAGE: i64 = 512;
/// How many bytes of them, but for the first.
const BYTES: i64 = limits::READ_AT_ONCE as i64;

/// What a query finds, in order, up to as many bytes of values as its last parameter says, but at least one row; the column after
/// the named ones says how many rows there were without that. The length of a value is known without reading it.
macro_rules! within_bytes {
    ($columns:literal, $order:literal, $bytes:literal, $query:literal) => {
        concat!(
            "SELECT ",
            $columns,
            ", found FROM (SELECT ",
            $columns,
            ", count(*) OVER () AS found,
                 sum(octet_length(value)) OVER (ORDER BY ",
            $order,
            " ROWS UNBOUNDED PRECEDING) AS bytes
             FROM (",
            $query,
            ") AS page) AS page
             WHERE bytes <= ",
            $bytes,
            " OR bytes = octet_length(value) ORDER BY ",
            $order
        )
    };
}

const LIVE: &str = within_bytes!(
    "type, id, value",
    "type, id",
    "$5",
    "SELECT type, id, value FROM pomerium_rs.records
     WHERE ($1 = '' OR type = $1) AND ($2::text IS NULL OR (type, id) > ($2, $3))
     ORDER BY type, id LIMIT $4"
);

const CHANGES: &str = within_bytes!(
    "version, type, value",
    "version",
    "$3",
    "SELECT version, type, value FROM pomerium_rs.changes WHERE version > $1 ORDER BY version LIMIT $2"
);

/// What was said of each type.
pub(super) const OPTIONS: &str = "SELECT type, value FROM pomerium_rs.options";

const COUNTERS: &str = "SELECT server_version, latest, trimmed, standing FROM pomerium_rs.about";

pub(super) async fn counters(client: &impl GenericClient) -> Result<Counters, Error> {
    let row = client
        .query_one(COUNTERS, &[])
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(counters_of(&row))
}

pub(super) fn counters_of(row: &Row) -> Counters {
    let mark = u64::try_from(row.get::<_, i16>(3)).unwrap_or(u64::MAX);
    let (standing, term) = Counters::of_mark(mark);
    Counters {
        server_version: unsigned(row.get(0)),
        latest: unsigned(row.get(1)),
        trimmed: unsigned(row.get(2)),
        standing,
        term,
    }
}

pub(super) async fn get(
    connection: &Object,
    sealer: &Sealer,
    record_type: &str,
    id: &str,
) -> Result<Option<Record>, Error> {
    // PostgreSQL has no text with a zero in it, so there is no such record.
    if record_type.contains('\0') || id.contains('\0') {
        return Ok(None);
    }
    let statement = connection
        .prepare_cached("SELECT value FROM pomerium_rs.records WHERE type = $1 AND id = $2")
        .await
        .map_err(|error| unavailable(&error))?;
    let row = connection
        .query_opt(&statement, &[&record_type, &id])
        .await
        .map_err(|error| unavailable(&error))?;
    row.map(|row| sealer.open(row.get(0), &Place::Live { record_type, id }))
        .transpose()
}

pub(super) async fn types(connection: &Object) -> Result<Vec<String>, Error> {
    // From one type to the next by the index, however many records each has.
    let rows = connection
        .query(
            "WITH RECURSIVE kinds(type) AS (
                 (SELECT type FROM pomerium_rs.records ORDER BY type LIMIT 1)
                 UNION ALL
                 SELECT (SELECT r.type FROM pomerium_rs.records r WHERE r.type > kinds.type ORDER BY r.type LIMIT 1)
                 FROM kinds WHERE kinds.type IS NOT NULL)
             SELECT type FROM kinds WHERE type IS NOT NULL",
            &[],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

pub(super) async fn options(
    client: &impl GenericClient,
    record_type: &str,
) -> Result<Option<Options>, Error> {
    let row = client
        .query_opt(
            "SELECT value FROM pomerium_rs.options WHERE type = $1",
            &[&record_type],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    row.map(|row| decode_options(record_type, row.get(0))).transpose()
}

/// What was said of each type.
pub(super) async fn all_options(client: &impl GenericClient) -> Result<BTreeMap<String, Options>, Error> {
    let rows = client.query(OPTIONS, &[]).await;
    options_of(&rows.map_err(|error| unavailable(&error))?)
}

/// The options in rows of [`OPTIONS`].
pub(super) fn options_of(rows: &[Row]) -> Result<BTreeMap<String, Options>, Error> {
    rows.iter()
        .map(|row| {
            let record_type: String = row.get(0);
            let options = decode_options(&record_type, row.get(1))?;
            Ok((record_type, options))
        })
        .collect()
}

/// Services that were reported and known at `after`, by kind and address.
pub(super) async fn services(
    client: &impl GenericClient,
    after: Timestamp,
) -> Result<Vec<Registered>, Error> {
    let rows = client
        .query(
            "SELECT kind, endpoint, expires FROM pomerium_rs.services WHERE expires > $1 ORDER BY kind, endpoint",
            &[&SystemTime::from(after)],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    let registered = |row: &Row| Registered {
        kind: row.get(0),
        endpoint: row.get(1),
        expires: Timestamp::try_from(row.get::<_, SystemTime>(2)).unwrap_or(Timestamp::MIN),
    };
    Ok(rows.iter().map(registered).collect())
}

fn decode_options(record_type: &str, value: &[u8]) -> Result<Options, Error> {
    Options::decode(value).map_err(|error| {
        Error::Damaged(format!(
            "PostgreSQL: the options of {record_type} are damaged: {error}"
        ))
    })
}

/// Where a reading of all records stands.
struct Reading {
    pool: Pool,
    sealer: Arc<Sealer>,
    record_type: String,
    after: Option<Key>,
    pending: VecDeque<Record>,
    done: bool,
}

/// All live records, a page at a time: no connection is held while nobody reads.
pub(super) fn latest(pool: Pool, sealer: Arc<Sealer>, record_type: String) -> Records {
    let reading = Reading {
        pool,
        sealer,
        record_type,
        after: None,
        pending: VecDeque::new(),
        done: false,
    };
    stream::unfold(Some(reading), |reading| async {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(record)) => Some((Ok(record), Some(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        while self.pending.is_empty() && !self.done {
            in_time(self.read_page()).await?;
        }
        Ok(self.pending.pop_front())
    }

    async fn read_page(&mut self) -> Result<(), Error> {
        let rows = live_page(&self.pool, &self.record_type, self.after.as_ref()).await?;
        let found = rows.first().map_or(0, |row| row.get::<_, i64>(3));
        self.done = found < PAGE && usize::try_from(found) == Ok(rows.len());
        for row in rows {
            let (record_type, id): (String, String) = (row.get(0), row.get(1));
            let place = Place::Live {
                record_type: &record_type,
                id: &id,
            };
            // What cannot be read is left out, which the sealer remembers.
            self.pending.extend(self.sealer.open(row.get(2), &place));
            self.after = Some((record_type, id));
        }
        Ok(())
    }
}

/// Opens everything. Not of one moment, but nothing that stays is missed.
pub(super) async fn inspect(pool: &Pool, sealer: &Sealer) -> Result<Inventory, Error> {
    let mut inventory = Inventory::default();
    let mut after: Option<Key> = None;
    loop {
        let rows = in_time(live_page(pool, "", after.as_ref())).await?;
        let Some(last) = rows.last() else { break };
        after = Some((last.get(0), last.get(1)));
        for row in rows {
            let (record_type, id): (&str, &str) = (row.get(0), row.get(1));
            match sealer.open(row.get(2), &Place::Live { record_type, id }) {
                Ok(_) => *inventory.records.entry(record_type.to_owned()).or_default() += 1,
                Err(error) => inventory.unreadable.push(error.to_string()),
            }
        }
    }
    let mut after = i64::MIN;
    loop {
        let rows = in_time(change_page(pool, after)).await?;
        let Some(last) = rows.last() else { break };
        after = last.get(0);
        for row in rows {
            match sealer.open(row.get(2), &Place::Change(unsigned(row.get(0)))) {
                Ok(_) => inventory.changes += 1,
                Err(error) => inventory.unreadable.push(error.to_string()),
            }
        }
    }
    Ok(inventory)
}

/// Live records behind `after`, of every type if it is empty.
async fn live_page(pool: &Pool, record_type: &str, after: Option<&Key>) -> Result<Vec<Row>, Error> {
    let connection = pool.get().await.map_err(|error| unavailable(&error))?;
    let statement = connection
        .prepare_cached(LIVE)
        .await
        .map_err(|error| unavailable(&error))?;
    let (after_type, after_id) = after.map(|(record_type, id)| (record_type, id)).unzip();
    connection
        .query(&statement, &[&record_type, &after_type, &after_id, &PAGE, &BYTES])
        .await
        .map_err(|error| unavailable(&error))
}

/// Changes after a version.
async fn change_page(pool: &Pool, after: i64) -> Result<Vec<Row>, Error> {
    let connection = pool.get().await.map_err(|error| unavailable(&error))?;
    connection
        .query(CHANGES, &[&after, &PAGE, &BYTES])
        .await
        .map_err(|error| unavailable(&error))
}

/// Part of the change log, with the place in it from one moment in time.
pub(super) async fn changes(
    connection: &mut Object,
    sealer: &Sealer,
    record_type: &str,
    from: Versions,
    limit: usize,
) -> Result<Changes, Error> {
    let transaction = connection
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(|error| unavailable(&error))?;
    counters(&*transaction).await?.check(from)?;
    let statement = transaction
        .prepare_cached(CHANGES)
        .await
        .map_err(|error| unavailable(&error))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = transaction
        .query(&statement, &[&signed(from.latest_record_version), &limit, &BYTES])
        .await
        .map_err(|error| unavailable(&error))?;
    let mut changes = Changes {
        records: Vec::new(),
        seen: from.latest_record_version,
    };
    for row in rows {
        changes.seen = unsigned(row.get(0));
        if record_type.is_empty() || row.get::<_, &str>(1) == record_type {
            // Not to be skipped: a reader that misses a change is wrong for good.
            let record = sealer.open(row.get(2), &Place::Change(changes.seen))?;
            changes.records.push(record);
        }
    }
    Ok(changes)
}
