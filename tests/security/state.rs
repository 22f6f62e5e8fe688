//! The state of a sign-in: another browser's, a changed one, one used twice.

use anyhow::{Context, Result};
use pomerium_testing::{Client, ScriptedIdp};
use pomerium_tests::{Stage, scripted};

/// Goes as far as the provider's answer: the callback address with code and state, not yet visited.
async fn callback(stage: &Stage<ScriptedIdp>, client: &Client) -> Result<String> {
    let mut url = stage.env.url("app", "/");
    for _ in 0..10 {
        let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
        let next = reply.location().with_context(|| format!("{url} leads nowhere"))?;
        if next.path() == "/oauth2/callback" {
            return Ok(next.to_string());
        }
        next.as_str().clone_into(&mut url);
    }
    anyhow::bail!("no callback")
}

async fn refused(client: &Client, stage: &Stage<ScriptedIdp>, url: &str, why: &str) -> Result<()> {
    let reply = client.follow(url).await?;
    // A page, or a fresh start that ends in a sign-in of the browser's own; never this callback's session.
    if reply.status.is_success() {
        anyhow::ensure!(
            reply
                .hops
                .iter()
                .filter(|hop| hop.path() == "/oauth2/callback")
                .count()
                > 1,
            "{why}: taken"
        );
    }
    anyhow::ensure!(stage.idp.seen().iter().all(|path| path != "/evil"));
    Ok(())
}

#[tokio::test]
async fn a_callback_of_another_browser_is_refused() -> Result<()> {
    let stage = scripted().await?;
    let attacker = stage.env.client()?;
    let url = callback(&stage, &attacker).await?;
    let victim = stage.env.client()?;
    let reply = victim.get_with(&url, &[("accept", "text/html")]).await?;
    assert!(
        !reply.headers.get_all("set-cookie").iter().any(|cookie| {
            cookie
                .to_str()
                .is_ok_and(|cookie| cookie.starts_with("_pomerium_authenticate=ey"))
        }),
        "{:?}",
        reply.headers
    );
    assert_eq!(
        stage.idp.seen().iter().filter(|path| *path == "/token").count(),
        0,
        "the code was not even used"
    );
    Ok(())
}

#[tokio::test]
async fn a_changed_state_is_refused() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let url = callback(&stage, &client).await?;
    let (before, state) = url.split_once("state=").context("no state")?;
    let middle = state.len() / 2;
    let flipped = if state.as_bytes()[middle] == b'A' {
        'B'
    } else {
        'A'
    };
    for changed in [
        format!("{}{flipped}{}", &state[..middle], &state[middle + 1..]),
        state[..middle].to_owned(),
        String::new(),
        "x".repeat(5000),
    ] {
        let reply = client
            .get_with(&format!("{before}state={changed}"), &[("accept", "text/html")])
            .await?;
        assert!(reply.status.is_client_error(), "{changed}: {}", reply.status);
    }
    assert_eq!(
        stage.idp.seen().iter().filter(|path| *path == "/token").count(),
        0
    );
    Ok(())
}

#[tokio::test]
async fn a_callback_works_once() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let url = callback(&stage, &client).await?;
    assert_eq!(client.follow(&url).await?.status, 200);
    let exchanges = || stage.idp.seen().iter().filter(|path| *path == "/token").count();
    let before = exchanges();
    refused(&client, &stage, &url, "the second time").await.ok();
    // Another start may happen; the old state is not exchanged again without one.
    let authorizations = stage
        .idp
        .seen()
        .iter()
        .filter(|path| *path == "/authorize")
        .count();
    assert!(exchanges() - before < authorizations, "{:?}", stage.idp.seen());
    Ok(())
}
