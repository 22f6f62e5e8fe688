//! Sessions that several databrokers over one PostgreSQL keep up to date: one of them at a time does, and another one
//! when that is dead.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Postgres, ScriptedIdp, SignIn};
use pomerium_tests::apart::Apart;

/// Tokens last so long: their refresh is due at once, and again each time the pause between two is over.
const LIFETIME: u64 = 61;
/// A dead holder's lease lasts half a minute, and others look twice in that time.
const TAKEN_OVER: Duration = Duration::from_secs(150);

/// Waits until tokens have been refreshed so often, and the last ones are kept: only then is the provider asked who the
/// person is.
async fn refreshed(idp: &ScriptedIdp, times: u32) -> Result<()> {
    let asked = || idp.seen().iter().filter(|path| *path == "/userinfo").count();
    let enough = async {
        // Once for the sign-in.
        while idp.refreshes().done < times || asked() <= times as usize {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let result = tokio::time::timeout(TAKEN_OVER, enough).await;
    result.with_context(|| format!("{:?} instead of {times}", idp.refreshes()))
}

#[tokio::test]
async fn one_databroker_refreshes_and_another_goes_on_when_it_is_dead() -> Result<()> {
    let (postgres, idp) = (Postgres::start()?, ScriptedIdp::start().await?);
    idp.script(|script| {
        script.lifetime = LIFETIME;
        script.refresh_tokens = true;
    });
    let mut apart = Apart::over_postgres(
        &postgres.connection("postgres"),
        &|service, builder| match service {
            "proxy" => builder,
            _ => builder.sign_in(SignIn::Oidc(idp.issuer())),
        },
    )
    .await?;
    let client = apart.client()?;
    let page = client.follow(&apart.url(0, "app", "/")).await?;
    ensure!(page.status == 200, "{}: {}", page.status, page.text());
    refreshed(&idp, 2).await?;
    // The first has held the lease since it was there alone.
    apart.databroker.kill().await?;
    let before = idp.refreshes().done;
    refreshed(&idp, before + 1).await?;
    ensure!(idp.refreshes().spent == 0, "two of them used one refresh token");
    for proxy in [0, 1] {
        ensure!(apart.status(&client, proxy, "app").await? == 200, "proxy {proxy}");
    }
    Ok(())
}
