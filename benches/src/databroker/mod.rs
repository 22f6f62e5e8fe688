//! The databroker: what its stores take and give, how soon the others know, and what an outage costs. No other
//! program beside it; the goals stand for themselves.
//!
//! `sample` is the session everything is measured with, `store` the file store, `sync` the processes that follow,
//! `postgres` the store in PostgreSQL beside plain statements, `failover` a databroker that dies.

mod failover;
mod postgres;
mod sample;
mod store;
mod sync;

use anyhow::Result;

use self::sample::Sample;

/// The figures as text. `only` names some of them: store, sync, caches, postgres, failover.
pub async fn run(records: usize, only: &[String]) -> Result<String> {
    pomerium_testing::install_crypto_provider();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let sample = Sample::take().await?;
    let mut text = format!(
        "### The databroker\n\n{records} sessions as a sign-in leaves them, {} bytes each.\n\n",
        sample.bytes()
    );
    let mut add = |lines: String| {
        eprint!("{lines}");
        text.push_str(&lines);
    };
    if wanted("store") || wanted("sync") {
        let mut filled = store::Filled::new(&sample, records).await?;
        add(filled.lines().await?);
        if wanted("sync") {
            add(sync::first(&filled, records).await?);
        }
    }
    if wanted("caches") {
        add(sync::caches(&sample).await?);
    }
    if wanted("postgres") {
        add(postgres::run(&sample, records).await?);
    }
    if wanted("failover") {
        add(failover::run().await?);
    }
    text.push('\n');
    Ok(text)
}

/// "met" or "missed", for a line with a goal.
fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
