//! The databroker over the file store is killed and started again, as a service manager does, while people who are
//! signed in go on asking.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pomerium_testing::within;
use pomerium_tests::apart::{Apart, with};
use pomerium_tests::asking::Asking;

use super::verdict;

/// How often it dies.
const DEATHS: usize = 5;

/// Measures and returns the lines.
pub async fn run() -> Result<String> {
    let mut apart = Apart::start(&with("log_level", "info")).await?;
    let client = apart.signed_in().await?;
    let cookie = client
        .cookie(&apart.url(0, "app", "/"), "_pomerium")
        .context("no session cookie")?;
    let asking = Asking::start(&apart, &cookie).await?;
    let mut longest: f64 = 0.0;
    for _ in 0..DEATHS {
        let begin = Instant::now();
        apart.databroker.kill().await?;
        apart.databroker.start_again().await?;
        within("a new sign-in", async {
            while apart.sign_in(&apart.client()?).await?.status != 200 {}
            anyhow::Ok(())
        })
        .await??;
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!("a new sign-in {seconds:.2} s after the death of the databroker");
        longest = longest.max(seconds);
    }
    let (asked, refused) = asking.stop().await?;
    refused.iter().for_each(|what| eprintln!("{what}"));
    let failed = refused.len();
    ensure!(asked > 0, "nobody asked");
    Ok(format!(
        "- databroker killed and started again {DEATHS} times: {failed} of {asked} authorised requests failed; goal none: {}; \
         a new sign-in works after {longest:.2} s at most; goal under 10 s: {}\n",
        verdict(failed == 0),
        verdict(longest < 10.0)
    ))
}
