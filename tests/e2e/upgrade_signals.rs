//! Signals that come while an upgrade is under way.

use anyhow::Result;
use pomerium_tests::scripted;

use crate::upgrade::begin_in_vain;

#[tokio::test]
async fn a_reload_that_an_upgrade_kept_waiting_follows_its_failure() -> Result<()> {
    let mut stage = scripted().await?;
    let (_taken, mark) = begin_in_vain(&mut stage).await?;
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
