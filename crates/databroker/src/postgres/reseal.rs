//! Sealing everything with the key of today, so that the former shared secret can be forgotten. Others may read and write
//! meanwhile, if they know both keys; several may do this at a time. What is sealed with the key of today already is only
//! read.

use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;

use super::migrate::{MigrateError, unsigned};
use crate::seal::{Place, Sealer};

/// Rows of one portion.
const CHUNK: i64 = 50;

/// A value to be sealed anew: what says which row, what it is, what it is to be.
struct Stale<K> {
    key: K,
    found: Vec<u8>,
    renewed: Vec<u8>,
}

/// Returns how many values it has sealed anew.
pub(super) async fn run(connection: &mut Object, sealer: &Sealer) -> Result<u64, MigrateError> {
    Ok(records(connection, sealer).await? + changes(connection, sealer).await?)
}

async fn records(connection: &mut Object, sealer: &Sealer) -> Result<u64, MigrateError> {
    let mut after: Option<(String, String)> = None;
    let mut count = 0;
    loop {
        let (last_type, last_id) = after.unzip();
        let rows = connection
            .query(
                "SELECT type, id, value FROM pomerium_rs.records
                 WHERE $1::text IS NULL OR (type, id) > ($1, $2) ORDER BY type, id LIMIT $3",
                &[&last_type, &last_id, &CHUNK],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(count) };
        after = Some((last.get(0), last.get(1)));
        let stale = rows.iter().filter_map(|row| {
            let (record_type, id): (&str, &str) = (row.get(0), row.get(1));
            let renewed = sealer.renewed(row.get(2), &Place::Live { record_type, id })?;
            Some(Stale {
                key: (record_type, id),
                found: row.get(2),
                renewed,
            })
        });
        let stale: Vec<_> = stale.collect();
        let values = stale.iter().map(|stale| {
            [
                &stale.key.0 as &(dyn ToSql + Sync),
                &stale.key.1,
                &stale.found,
                &stale.renewed,
            ]
        });
        let statement =
            "UPDATE pomerium_rs.records SET value = $4 WHERE type = $1 AND id = $2 AND value = $3";
        count += replace(connection, statement, values.collect()).await?;
    }
}

async fn changes(connection: &mut Object, sealer: &Sealer) -> Result<u64, MigrateError> {
    let mut after = i64::MIN;
    let mut count = 0;
    loop {
        let rows = connection
            .query(
                "SELECT version, value FROM pomerium_rs.changes WHERE version > $1 ORDER BY version LIMIT $2",
                &[&after, &CHUNK],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(count) };
        after = last.get(0);
        let stale = rows.iter().filter_map(|row| {
            let version: i64 = row.get(0);
            let renewed = sealer.renewed(row.get(1), &Place::Change(unsigned(version)))?;
            Some(Stale {
                key: version,
                found: row.get(1),
                renewed,
            })
        });
        let stale: Vec<_> = stale.collect();
        let values = stale
            .iter()
            .map(|stale| [&stale.key as &(dyn ToSql + Sync), &stale.found, &stale.renewed]);
        let statement = "UPDATE pomerium_rs.changes SET value = $3 WHERE version = $1 AND value = $2";
        count += replace(connection, statement, values.collect()).await?;
    }
}

/// Carries out `statement` with the values of each row, unless there are none; how many rows it has changed.
async fn replace<const N: usize>(
    connection: &mut Object,
    statement: &str,
    rows: Vec<[&(dyn ToSql + Sync); N]>,
) -> Result<u64, MigrateError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let transaction = in_turn(connection).await?;
    let mut count = 0;
    for values in &rows {
        count += transaction.execute(statement, values).await?;
    }
    transaction.commit().await?;
    Ok(count)
}

/// A transaction in turn with whoever writes: rows are never waited for in two orders. What has changed since it was read is
/// to be left alone.
async fn in_turn(connection: &mut Object) -> Result<deadpool_postgres::Transaction<'_>, MigrateError> {
    let transaction = connection.transaction().await?;
    transaction
        .query_one("SELECT 1 FROM pomerium_rs.about FOR UPDATE", &[])
        .await?;
    Ok(transaction)
}
