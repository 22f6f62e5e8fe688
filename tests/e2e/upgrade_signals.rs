//! Signals that come while an upgrade is under way.

use anyhow::Result;
use pomerium_tests::scripted;

#[tokio::test]
async fn a_reload_that_an_upgrade_kept_waiting_follows_its_failure() -> Result<()> {
    let mut stage = scripted().await?;
    // The metrics address is taken by the time of the upgrade: the new process cannot start.
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let mark = stage.env.log().mark();
    stage
        .env
        .rewrite_config(|config| config["metrics_address"] = address.into())?;
    let warned = |line: &str| line.contains("at the next start");
    stage.env.log().wait_from(mark, "the reload", warned).await?;
    stage.env.signal("USR2").await?;
    let begun = |line: &str| line.contains("upgrade: starting the new process");
    stage.env.log().wait_from(mark, "the upgrade", begun).await?;
    stage.env.signal("HUP").await?;
    for (what, words) in [
        ("the failed upgrade", "upgrade: it failed"),
        ("the reload", "config: received SIGHUP, reloading config"),
    ] {
        let said = |line: &str| line.contains(words);
        stage.env.log().wait_from(mark, what, said).await?;
    }
    let client = stage.signed_in().await?;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    Ok(())
}
