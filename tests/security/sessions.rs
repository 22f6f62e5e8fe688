//! Sessions (oauth2-proxy CVE-2026-34454; zitadel CVE-2026-27840): a fresh one per sign-in, whole or not at
//! all, gone at once when it ends.

use anyhow::{Context, Result};
use pomerium_tests::{payload, scripted};

#[tokio::test]
async fn a_session_brought_along_is_not_taken_over() -> Result<()> {
    let stage = scripted().await?;
    let attacker = stage.signed_in().await?;
    let url = stage.env.url("app", "/");
    let planted = attacker.cookie(&url, "_pomerium").context("no cookie")?;

    let victim = stage.signed_in().await?;
    let own = victim.cookie(&url, "_pomerium").context("no cookie")?;
    assert_ne!(
        payload(&planted)["jti"],
        payload(&own)["jti"],
        "each sign-in is a session of its own"
    );
    Ok(())
}

#[tokio::test]
async fn a_cookie_that_is_changed_anywhere_is_nobody() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let url = stage.env.url("app", "/");
    let cookie = client.cookie(&url, "_pomerium").context("no cookie")?;
    let parts: Vec<&str> = cookie.split('.').collect();
    assert_eq!(parts.len(), 3);
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let mut changed = vec![
        cookie[..cookie.len() - 1].to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{cookie}.x"),
        String::from("x"),
        String::new(),
    ];
    for at in [5, parts[0].len() + 5, cookie.len() - 5] {
        let flipped = if cookie.as_bytes()[at] == b'A' { 'B' } else { 'A' };
        changed.push(format!("{}{flipped}{}", &cookie[..at], &cookie[at + 1..]));
    }
    for value in changed {
        let stranger = stage.env.client()?;
        stranger.set_cookie(&url, "_pomerium", &value)?;
        assert_eq!(stage.api(&stranger, "app", "/").await?.status, 401, "{value}");
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_session_that_is_signed_out_is_dead_at_once_everywhere() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let url = stage.env.url("app", "/");
    let stolen = stage.env.client()?;
    stolen.set_cookie(
        &url,
        "_pomerium",
        &client.cookie(&url, "_pomerium").context("no cookie")?,
    )?;
    assert_eq!(stage.api(&stolen, "app", "/").await?.status, 200);

    let page = client
        .follow(&stage.env.url("app", "/.pomerium/sign_out"))
        .await?;
    if page.text().contains("<form") {
        client.submit_form(&page, "sign_out").await?;
    }
    assert_eq!(stage.api(&stolen, "app", "/").await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn answers_that_depend_on_the_session_are_not_cached() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    for path in ["/.pomerium/", "/.pomerium/user", "/.pomerium/sign_out"] {
        let reply = client.get(&stage.env.url("app", path)).await?;
        let caching = reply.header("cache-control").unwrap_or_default();
        assert!(
            caching.contains("no-store") || caching.contains("no-cache"),
            "{path}: {caching:?}"
        );
    }
    Ok(())
}
