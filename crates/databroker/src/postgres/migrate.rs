//! The layout: made at the first start, brought up to date by later versions, one process at a time.

use deadpool_postgres::Object;
use pomerium_api::databroker::Error;
use tokio_postgres::error::SqlState;

use super::{reseal, said};
use crate::seal::{KeyFit, Sealer};
use crate::store::Counters;

/// Steps from one format to the next; the format is how many there are.
const STEPS: [&str; 3] = [
    include_str!("schema.sql"),
    // Whose records these are: see `Standing`.
    "ALTER TABLE pomerium_rs.about ADD COLUMN standing smallint NOT NULL DEFAULT 0",
    "CREATE TABLE pomerium_rs.services (
         kind     integer          NOT NULL,
         endpoint text COLLATE \"C\" NOT NULL,
         expires  timestamptz      NOT NULL,
         PRIMARY KEY (kind, endpoint))",
];
/// The lock that lets one process at a time change the layout; any number will do.
const LOCK: i64 = 0x706f_6d65_7269_756d;

/// Why the layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It was made by a later version of this program.
    #[error(
        "the tables in PostgreSQL have format {found}, this program knows {known}: a later version has been here. Start \
         that one; or go back to a backup made before it, in another database \
         (databroker_storage_connection_string, then `pomerium databroker restore`)"
    )]
    Newer {
        /// What it says.
        found: i32,
        /// The latest known here.
        known: usize,
    },
    /// It was sealed with another key, or not at all.
    #[error("{0}")]
    Key(&'static str),
    /// The server refuses.
    #[error("the tables in PostgreSQL cannot be made or read: {said}{advice}")]
    Server {
        /// What it says.
        said: String,
        /// What to do, where that is known.
        advice: &'static str,
    },
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server {
            said: said(&error),
            advice: advice(&error),
        }
    }
}

/// What to do about it. Names of ours are looked for in what the server says, because the rest of it may be in any language.
fn advice(error: &tokio_postgres::Error) -> &'static str {
    let Some(refusal) = error.as_db_error() else {
        return "";
    };
    let ours = ["pomerium_rs", "about", "format"];
    match *refusal.code() {
        SqlState::INSUFFICIENT_PRIVILEGE if ours.iter().any(|name| refusal.message().contains(name)) => {
            "; the schema pomerium_rs belongs to another user: connect as that one, or make this one its owner, and that of \
             everything in it"
        }
        SqlState::INSUFFICIENT_PRIVILEGE => "; the user needs the right to create a schema, once",
        _ => super::advice(error),
    }
}

/// Makes the layout what this program needs, whole or not at all.
pub(super) async fn run(connection: &mut Object, sealer: &Sealer) -> Result<(), MigrateError> {
    let found = format(connection).await?;
    if found == Some(STEPS.len()) {
        return check_key(connection, sealer).await;
    }
    let transaction = connection.transaction().await?;
    // Whoever comes second waits, however long the first takes.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    transaction
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS pomerium_rs;
             CREATE TABLE IF NOT EXISTS pomerium_rs.format (
                 one boolean PRIMARY KEY DEFAULT true CHECK (one), format integer NOT NULL, key_check bytea)",
        )
        .await?;
    let row = transaction
        .query_opt("SELECT format FROM pomerium_rs.format", &[])
        .await?;
    let from = match row {
        Some(row) => known(row.get(0))?,
        None => 0,
    };
    for step in &STEPS[from..] {
        transaction.batch_execute(step).await?;
    }
    if from == 0 {
        let counters = Counters::fresh();
        transaction
            .execute(
                "INSERT INTO pomerium_rs.about (server_version, latest, trimmed) VALUES ($1, 0, 0)",
                &[&signed(counters.server_version)],
            )
            .await?;
    }
    transaction
        .execute(
            "INSERT INTO pomerium_rs.format (format, key_check) VALUES ($1, $2)
             ON CONFLICT (one) DO UPDATE SET format = EXCLUDED.format",
            &[
                &i32::try_from(STEPS.len()).unwrap_or(i32::MAX),
                &sealer.key_check(),
            ],
        )
        .await?;
    transaction.commit().await?;
    check_key(connection, sealer).await
}

/// The format of the tables; `None` when there are none.
async fn format(connection: &Object) -> Result<Option<usize>, MigrateError> {
    let there = connection
        .query_one("SELECT to_regclass('pomerium_rs.format') IS NOT NULL", &[])
        .await?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = connection
        .query_opt("SELECT format FROM pomerium_rs.format", &[])
        .await?;
    row.map(|row| known(row.get(0))).transpose()
}

fn known(found: i32) -> Result<usize, MigrateError> {
    usize::try_from(found)
        .ok()
        .filter(|found| *found <= STEPS.len())
        .ok_or(MigrateError::Newer {
            found,
            known: STEPS.len(),
        })
}

/// Errors when a later version has changed the tables while this process was running.
pub(super) fn still_known(found: i32) -> Result<(), Error> {
    known(found)
        .map(drop)
        .map_err(|error| Error::Unavailable(format!("PostgreSQL: {error}")))
}

async fn check_key(connection: &mut Object, sealer: &Sealer) -> Result<(), MigrateError> {
    let row = connection
        .query_one("SELECT key_check FROM pomerium_rs.format", &[])
        .await?;
    let check: Option<Vec<u8>> = row.get(0);
    Err(MigrateError::Key(match sealer.fits(check.as_deref()) {
        KeyFit::Fits => return renew(connection, sealer, check.as_deref()).await,
        KeyFit::Wrong => {
            "the records in PostgreSQL were sealed with another shared secret; set the former shared_secret again, or use \
             another database"
        }
        KeyFit::Missing => "the records in PostgreSQL are sealed, but no shared secret is set",
        KeyFit::NotSealed => "the records in PostgreSQL were written without a key; use another database",
    }))
}

/// While there is a former key, every start looks for what is sealed with it: another databroker may have gone on sealing
/// with it since the first one looked.
async fn renew(connection: &mut Object, sealer: &Sealer, check: Option<&[u8]>) -> Result<(), MigrateError> {
    if !sealer.has_former() {
        return Ok(());
    }
    tracing::info!(
        "whatever in PostgreSQL is sealed with a former shared secret is sealed with that of today; this can take a while"
    );
    let renewed = reseal::run(connection, sealer).await?;
    if !sealer.is_current(check) {
        connection
            .execute(
                "UPDATE pomerium_rs.format SET key_check = $1",
                &[&sealer.key_check()],
            )
            .await?;
    }
    tracing::info!(
        renewed,
        "nothing in PostgreSQL needs a former shared secret any more, once every databroker has that of today in front"
    );
    Ok(())
}

/// A number as PostgreSQL keeps it: the same 64 bits.
pub(super) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// And back.
pub(super) fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}
