//! A handful of random deaths; `cargo xtask chaos` has as many as there is time for.

use anyhow::Result;
use pomerium_tests::chaos::processes::{Installation, Over};
use pomerium_tests::chaos::{Random, standby};

#[tokio::test]
async fn nothing_is_lost_however_the_databroker_over_a_file_dies() -> Result<()> {
    deaths(Over::File, 4).await
}

#[tokio::test]
async fn nothing_is_lost_however_the_databrokers_over_postgresql_die() -> Result<()> {
    deaths(Over::Postgres, 4).await
}

#[tokio::test]
async fn a_takeover_loses_the_last_writes_at_most() -> Result<()> {
    let takeover = standby::takeover(&mut Random::new(7)).await?;
    assert!(takeover.acknowledged > 0, "{takeover:?}");
    Ok(())
}

async fn deaths(over: Over, count: u64) -> Result<()> {
    let mut installation = Installation::start(over).await?;
    let mut random = Random::new(0x00c0_ffee);
    for _ in 0..count {
        installation.round(&mut random).await?;
    }
    let outcome = installation.end().await?;
    assert_eq!(outcome.kills, count);
    assert!(outcome.writes > 0 && outcome.requests > 0, "{outcome:?}");
    Ok(())
}
