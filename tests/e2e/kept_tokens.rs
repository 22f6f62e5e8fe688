//! A proxy keeps tokens of people only while its configuration shows them to somebody, and a change of that shows at once.

use anyhow::{Context, Result};
use pomerium_testing::{Client, within};
use pomerium_tests::apart::{Apart, as_it_is};
use serde_json::{Value, json};

/// Changes the first route of a proxy, and waits until that is in force.
async fn change(apart: &mut Apart, proxy: usize, change: impl FnOnce(&mut Value)) -> Result<()> {
    let proxy = &mut apart.proxies[proxy];
    let mark = proxy.log().mark();
    proxy.rewrite_config(|config| change(&mut config["routes"][0]))?;
    proxy
        .log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    Ok(())
}

fn shows_tokens(route: &mut Value) {
    route["set_request_headers"] = json!({
        "X-Id-Token": "${pomerium.id_token}", "X-Access-Token": "${pomerium.access_token}",
    });
}

/// The tokens that the upstream was shown with one request.
async fn shown(apart: &Apart, client: &Client, proxy: usize) -> Result<(String, String)> {
    apart.upstream.take_requests();
    assert_eq!(apart.status(client, proxy, "app").await?, 200);
    let request = apart.upstream.take_requests().pop().context("nothing came")?;
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    Ok((header("x-id-token"), header("x-access-token")))
}

#[tokio::test]
async fn a_header_with_a_token_is_whole_with_the_first_request_after_a_reload() -> Result<()> {
    let mut apart = Apart::start(&as_it_is).await?;
    let client = apart.signed_in().await?;
    change(&mut apart, 0, shows_tokens).await?;
    let (id_token, access_token) = shown(&apart, &client, 0).await?;
    assert_eq!(id_token.split('.').count(), 3, "a JWT: {id_token}");
    assert!(!access_token.is_empty());
    assert_eq!(apart.status(&client, 1, "app").await?, 200);

    // With the databroker gone, what was shown is shown on; at the other proxy the tokens are not known, and an empty
    // header would be a lie. Its other routes go on.
    apart.databroker.kill().await?;
    change(&mut apart, 1, shows_tokens).await?;
    assert_eq!(
        shown(&apart, &client, 0).await?,
        (id_token.clone(), access_token.clone())
    );
    assert_eq!(apart.status(&client, 1, "app").await?, 503);
    assert_eq!(apart.status(&client, 1, "open").await?, 200);
    let stranger = apart.client()?;
    assert_eq!(apart.status(&stranger, 1, "app").await?, 401);

    apart.databroker.start_again().await?;
    within("the tokens at the other proxy", async {
        while apart.status(&client, 1, "app").await? != 200 {}
        Ok::<_, anyhow::Error>(())
    })
    .await??;
    assert_eq!(shown(&apart, &client, 1).await?, (id_token, access_token));
    Ok(())
}

#[tokio::test]
async fn a_policy_that_reads_sessions_sees_them_whole_from_the_first_request_on() -> Result<()> {
    let mut apart = Apart::start(&as_it_is).await?;
    let client = apart.signed_in().await?;
    let script = |test: &str| {
        format!(
            "default allow = false\nallow {{ s := get_databroker_record(\"type.googleapis.com/session.Session\", input.session.id); {test} }}"
        )
    };
    let guarded = |script: String| {
        move |route: &mut Value| {
            route
                .as_object_mut()
                .map(|route| route.remove("allow_any_authenticated_user"));
            route["rego"] = script.into();
        }
    };
    change(
        &mut apart,
        0,
        guarded(script("s.oauth_token.access_token != \"\"")),
    )
    .await?;
    assert_eq!(apart.status(&client, 0, "app").await?, 200);
    // What is not there must not pass for one that was never there.
    apart.databroker.kill().await?;
    change(&mut apart, 1, guarded(script("not s.oauth_token"))).await?;
    assert_eq!(apart.status(&client, 1, "app").await?, 503);
    apart.databroker.start_again().await?;
    within("the session at the other proxy", async {
        while apart.status(&client, 1, "app").await? == 503 {}
        Ok::<_, anyhow::Error>(())
    })
    .await??;
    assert_eq!(apart.status(&client, 1, "app").await?, 403);
    Ok(())
}
