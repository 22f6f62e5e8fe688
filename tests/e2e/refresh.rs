//! Sessions that several databrokers over one PostgreSQL keep up to date: one of them at a time does, and another one
//! when that is dead. What a provider refused is kept.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use pomerium_api::databroker::Databroker;
use pomerium_api::pb::pomerium::events::LastError;
use pomerium_api::records::{RecordMessage, from_record};
use pomerium_testing::{Postgres, ScriptedIdp, SignIn, lease, within};
use pomerium_tests::apart::Apart;
use pomerium_tests::numbers::Numbers;
use pomerium_tests::scripted_with;
use pomerium_tests::services::tool;
use serde_json::json;

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

#[tokio::test]
async fn a_refusal_is_kept_as_the_last_error_without_the_words_of_the_provider() -> Result<()> {
    const SECRET: &str = "refresh-token-0";
    let (grpc, metrics) = (lease()?, lease()?);
    let at = |port: u16| format!("127.0.0.1:{port}");
    let stage = scripted_with(|builder| {
        builder
            .set("grpc_address", at(grpc.number()))
            .set("metrics_address", at(metrics.number()))
    })
    .await?;
    stage.idp.script(|script| {
        script.lifetime = LIFETIME;
        script.refresh_tokens = true;
    });
    let client = stage.signed_in().await?;
    let broker = tool(at(grpc.number()).parse()?)?;
    let options = broker.options(LastError::TYPE).await?.context("no options")?;
    ensure!(options.capacity == Some(50), "{options:?}");
    let start = broker.versions().await?;
    let mut written = broker.sync(LastError::TYPE, start).await?;
    let refusal = json!({"error": "invalid_grant", "error_description": format!("{SECRET} has ended")});
    stage
        .idp
        .script(|script| script.token_reply = Some((400, refusal.to_string())));
    let record = within("the last error", written.next()).await?;
    let record = record.context("the stream ended")??;
    ensure!(
        record.id == "identity_manager_last_session_refresh_error",
        "{record:?}"
    );
    let event: LastError = from_record(&record)?;
    ensure!(event.id == record.id && event.time.is_some(), "{event:?}");
    ensure!(
        event.message.contains("refresh token (400 invalid_grant)") && !event.message.contains(SECRET),
        "{event:?}"
    );
    let numbers = Numbers::read(&client, metrics.number()).await?;
    let when = |end| {
        let name = format!("pomerium_identity_manager_last_session_refresh_{end}_timestamp");
        numbers.value(&name, &[])
    };
    let since = event.time.context("no time")?.seconds as f64;
    ensure!(when("error")? >= since && when("success")? < since, "{numbers}");
    Ok(())
}
