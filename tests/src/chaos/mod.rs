//! Processes that are killed at random moments, and what must hold afterwards: what was acknowledged is there,
//! versions have no gaps, whoever is signed in passes.
//!
//! [`store`] kills a process that does nothing but write to a file store, very often; [`processes`] kills those of an
//! installation; [`standby`] kills a leader and promotes the one that follows it. The tests take a handful of each,
//! `cargo xtask chaos` as many as there is time for.

pub mod processes;
pub mod standby;
pub mod store;

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use pomerium_api::databroker::{Databroker, Record, Versions};
use pomerium_api::records::struct_record;
use serde_json::json;

/// The type of the records that are written.
pub const KIND: &str = "example.com/Written";

/// A small generator: what happened is repeated by its seed, as far as time allows.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// A while of less than `limit` milliseconds.
    pub fn pause(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(limit * 1000))
    }
}

/// A record that is written once.
pub fn record(id: &str, size: usize) -> Record {
    struct_record(KIND, id, &json!({ "id": id, "filling": "x".repeat(size) }))
}

/// Reads the change log on from `at`: each version is one above that before it. Returns where it ends.
pub async fn no_gaps(broker: &dyn Databroker, at: Versions) -> Result<Versions> {
    let mut changes = broker.sync_until_now("", at).await?;
    let mut at = at;
    while let Some(change) = changes.next().await {
        let version = change?.version;
        ensure!(
            version == at.latest_record_version + 1,
            "version {version} comes after {}",
            at.latest_record_version
        );
        at.latest_record_version = version;
    }
    Ok(at)
}
