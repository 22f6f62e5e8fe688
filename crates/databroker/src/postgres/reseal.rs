//! Sealing everything with the key of today, so that the former shared secret can be forgotten. Others may read and write
//! meanwhile, if they know both keys; several may do this at a time.

use deadpool_postgres::Object;

use super::migrate::{MigrateError, unsigned};
use crate::seal::{Place, Sealer};

/// Rows of one transaction.
const CHUNK: i64 = 500;

pub(super) async fn run(connection: &mut Object, sealer: &Sealer) -> Result<(), MigrateError> {
    tracing::info!(
        "the records in PostgreSQL are sealed with the shared secret of today; this can take a while"
    );
    records(connection, sealer).await?;
    changes(connection, sealer).await?;
    connection
        .execute(
            "UPDATE pomerium_rs.format SET key_check = $1",
            &[&sealer.key_check()],
        )
        .await?;
    tracing::info!(
        "the records in PostgreSQL are sealed anew; the former shared secret is not needed for them any more"
    );
    Ok(())
}

async fn records(connection: &mut Object, sealer: &Sealer) -> Result<(), MigrateError> {
    let mut after: Option<(String, String)> = None;
    loop {
        let transaction = connection.transaction().await?;
        // In turn with whoever writes: rows are never waited for in two orders.
        transaction
            .query_one("SELECT 1 FROM pomerium_rs.about FOR UPDATE", &[])
            .await?;
        let (last_type, last_id) = after.clone().unzip();
        let rows = transaction
            .query(
                "SELECT type, id, value FROM pomerium_rs.records
                 WHERE $1::text IS NULL OR (type, id) > ($1, $2) ORDER BY type, id LIMIT $3 FOR UPDATE",
                &[&last_type, &last_id, &CHUNK],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some((last.get(0), last.get(1)));
        for row in &rows {
            let (record_type, id): (&str, &str) = (row.get(0), row.get(1));
            if let Some(value) = sealer.renewed(row.get(2), &Place::Live { record_type, id }) {
                transaction
                    .execute(
                        "UPDATE pomerium_rs.records SET value = $3 WHERE type = $1 AND id = $2",
                        &[&record_type, &id, &value],
                    )
                    .await?;
            }
        }
        transaction.commit().await?;
    }
}

async fn changes(connection: &mut Object, sealer: &Sealer) -> Result<(), MigrateError> {
    let mut after = i64::MIN;
    loop {
        let transaction = connection.transaction().await?;
        // In turn with whoever writes: rows are never waited for in two orders.
        transaction
            .query_one("SELECT 1 FROM pomerium_rs.about FOR UPDATE", &[])
            .await?;
        let rows = transaction
            .query(
                "SELECT version, value FROM pomerium_rs.changes WHERE version > $1 ORDER BY version LIMIT $2 FOR UPDATE",
                &[&after, &CHUNK],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get(0);
        for row in &rows {
            let version: i64 = row.get(0);
            if let Some(value) = sealer.renewed(row.get(1), &Place::Change(unsigned(version))) {
                transaction
                    .execute(
                        "UPDATE pomerium_rs.changes SET value = $2 WHERE version = $1",
                        &[&version, &value],
                    )
                    .await?;
            }
        }
        transaction.commit().await?;
    }
}
