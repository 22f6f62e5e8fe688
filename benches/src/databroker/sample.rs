//! A session as a real sign-in at the built-in provider leaves it; the others are copies with ids of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use futures_util::StreamExt;
use pomerium::server::remote::Way;
use pomerium_api::clock::SystemClock;
use pomerium_api::databroker::remote::Remote;
use pomerium_api::databroker::{Databroker, Latest, Record};
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage, from_record, to_record};
use pomerium_certs::DerivedAuthority;
use pomerium_config::Loader;
use pomerium_tests::apart::{Apart, as_it_is};
use pomerium_tests::records::shared_secret;
use prost::Message;

/// What sessions are copied from.
pub struct Sample(Session);

impl Sample {
    /// Signs somebody in and reads the record.
    pub async fn take() -> Result<Self> {
        let apart = Apart::start(&as_it_is).await?;
        apart.signed_in().await?;
        let broker = client(apart.proxies[0].folder())?;
        let mut latest = broker.sync_latest(Session::TYPE).await?;
        while let Some(item) = latest.next().await {
            if let Latest::Record(record) = item? {
                return Ok(Self(from_record(&record)?));
            }
        }
        Err(anyhow!("the sign-in left no session"))
    }

    /// The session of the person `number`.
    pub fn session(&self, number: usize) -> Record {
        to_record(&Session {
            id: id(number),
            ..self.0.clone()
        })
    }

    /// Encoded.
    pub fn bytes(&self) -> usize {
        self.0.encoded_len()
    }
}

/// An id as random ones look; the same for the same number.
pub fn id(number: usize) -> String {
    let bits = (u128::from(mix(number as u64)) << 64) | u128::from(mix(!(number as u64)));
    let text = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

/// Spreads a number over 64 bits (SplitMix64).
pub fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The way to the databroker that the program in `folder` has, on a connection of its own.
pub fn client(folder: &Path) -> Result<Remote> {
    let loaded = Loader::new(Some(&folder.join("config.yaml")), &BTreeMap::new())
        .dry_run()
        .load()
        .map_err(|errors| anyhow!("{errors}"))?;
    let settings = loaded.settings;
    let shared = shared_secret()?;
    let derived = DerivedAuthority::new(&shared)?;
    let remote = settings
        .internal
        .databroker
        .as_ref()
        .context("its databroker is in another process")?;
    let way = Way::new(remote, &settings, (&shared, &derived), Arc::new(SystemClock))?;
    Ok(way.client())
}
