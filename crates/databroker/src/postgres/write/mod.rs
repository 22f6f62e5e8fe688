//! Writing: take the turn, read what the write may touch, let [`apply`] work on it, write what came of it, commit, tell.
//!
//! A write holds the turn of all others, so what it costs is the ways to the server and back. There are two: statements
//! are sent one behind another (`turn`), first everything that is read, then everything that is written. `read` is what a
//! write may touch, `store` what came of it.

mod read;
mod store;
mod turn;
mod zeros;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use pomerium_api::databroker::Error;

use super::migrate;
use super::read::counters_of;
use crate::apply::apply;
use crate::seal::Sealer;
use crate::store::{Write, Written};
use turn::Turn;

/// With the format: a later version may have changed the tables since this process began.
const COUNTERS_WITH_FORMAT: &str = "SELECT server_version, latest, trimmed, standing, (SELECT format FROM pomerium_rs.format) FROM pomerium_rs.about";
/// The same, and nobody else comes in between.
const COUNTERS_TO_CHANGE: &str = "SELECT server_version, latest, trimmed, standing, (SELECT format FROM pomerium_rs.format) FROM pomerium_rs.about FOR UPDATE";

/// Carries out one write, whole or not at all. Durable when it returns.
pub(super) async fn run(
    client: &ClientWrapper,
    sealer: &Sealer,
    write: &Write,
    now: Timestamp,
) -> Result<Written, Error> {
    zeros::refuse(write)?;
    // Leases have a row of their own to wait for; everything else takes its turn here.
    let counters = match write {
        Write::Lease(_) | Write::ReleaseLease { .. } => COUNTERS_WITH_FORMAT,
        _ => COUNTERS_TO_CHANGE,
    };
    let turn = Turn::new(client);
    let (row, mut overlay) = read::run(client, counters, sealer, (write, now)).await?;
    migrate::still_known(row.get(4))?;
    let before = counters_of(&row);
    let mut counters = before;
    let written = apply(&mut overlay, &mut counters, write, now)?;
    store::run(client, sealer, write, &overlay, (before, counters)).await?;
    turn.ended();
    Ok(written)
}
