//! What a provider that lies leaves behind: a log line that says why, a page that blames the right side, and no
//! session, no cookie, no user (zitadel CVE-2026-55669; traefik CVE-2026-26998).

use anyhow::{Context, Result};
use pomerium_testing::{Script, ScriptedIdp};
use pomerium_tests::{Stage, scripted};
use serde_json::json;

type Lie = (&'static str, fn(&mut Script), &'static str);

/// Name, lie, and a word that the log line about it has.
const LIES: &[Lie] = &[
    (
        "another issuer",
        |script| script.overrides = json!({ "iss": "https://evil.example.org" }),
        "iss",
    ),
    (
        "another audience",
        |script| script.overrides = json!({ "aud": "someone-else" }),
        "aud",
    ),
    (
        "our audience among others, for another party",
        |script| script.overrides = json!({ "aud": ["pomerium", "evil"], "azp": "evil" }),
        "meant for client",
    ),
    (
        "expired",
        |script| script.overrides = json!({ "exp": 1_000_000 }),
        "exp",
    ),
    (
        "another nonce",
        |script| script.overrides = json!({ "nonce": "stolen" }),
        "nonce",
    ),
    ("no signature", |script| script.algorithm = "none", "alg"),
    ("a key as secret", |script| script.algorithm = "HS256", "alg"),
    ("an unknown key", |script| script.unpublished_key = true, "sign"),
    (
        "userinfo of someone else",
        |script| script.userinfo_sub = Some("id-stranger".into()),
        "sub",
    ),
    (
        "a token endpoint that refuses",
        |script| script.token_reply = Some((400, r#"{"error":"invalid_grant"}"#.into())),
        "invalid_grant",
    ),
    (
        "a token endpoint that redirects",
        |script| script.token_reply = Some((302, String::new())),
        "302",
    ),
    (
        "a token endpoint that is broken",
        |script| script.token_reply = Some((500, "<html>".into())),
        "500",
    ),
    ("endless answers", |script| script.padding = 16 << 20, "large"),
];

async fn sign_in(stage: &Stage<ScriptedIdp>) -> Result<(u16, String, Option<String>, Option<String>)> {
    let client = stage.env.client()?;
    let reply = client.follow(&stage.env.url("app", "/")).await?;
    Ok((
        reply.status.as_u16(),
        reply.text(),
        client.cookie(&stage.env.url("app", "/"), "_pomerium"),
        client.cookie(&stage.env.url("auth", "/"), "_pomerium_authenticate"),
    ))
}

#[tokio::test]
async fn every_lie_is_said_in_the_log_and_leaves_nothing() -> Result<()> {
    let stage = scripted().await?;
    for (name, lie, word) in LIES {
        stage.idp.script(|script| {
            *script = Script::default();
            lie(script);
        });
        let mark = stage.env.log().mark();
        let (status, page, route, authenticate) = sign_in(&stage).await?;
        assert!(matches!(status, 400 | 401 | 403 | 500..=504), "{name}: {status}");
        assert!(page.contains("<h1>"), "{name}: {page}");
        assert_eq!(route, None, "{name}");
        assert_eq!(authenticate, None, "{name}");
        let line = stage
            .env
            .log()
            .wait_from(mark, name, |line| {
                (line.contains("\"warn\"") || line.contains("\"error\""))
                    && line.to_lowercase().contains(word)
            })
            .await
            .with_context(|| format!("{name}: a line with {word:?}"))?;
        assert!(
            !line.contains("the-access-token") && !line.contains("the-code"),
            "{name}: {line}"
        );
    }
    let told = stage.env.log().all();
    assert!(
        !told.iter().any(|line| line.contains("\"signed in\"")),
        "a session was made"
    );
    assert!(stage.upstream.requests().is_empty());
    // The control: the same stage with an honest provider.
    stage.idp.script(|script| *script = Script::default());
    assert_eq!(sign_in(&stage).await?.0, 200);
    stage
        .env
        .log()
        .wait("the honest sign-in", |line| line.contains("\"signed in\""))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_not_used() -> Result<()> {
    let stage = scripted().await?;
    stage
        .idp
        .script(|script| script.discovery_issuer = Some("https://evil.example.org".into()));
    let mark = stage.env.log().mark();
    let (status, page, route, _) = sign_in(&stage).await?;
    assert!((500..=504).contains(&status), "{status}");
    assert!(page.contains("<h1>"), "{page}");
    assert_eq!(route, None);
    assert!(
        stage
            .idp
            .seen()
            .iter()
            .all(|path| path.starts_with("/.well-known/")),
        "nobody was sent there: {:?}",
        stage.idp.seen()
    );
    stage
        .env
        .log()
        .wait_from(mark, "the refusal", |line| line.contains("evil.example.org"))
        .await?;
    // Back to its senses: no restart is needed.
    stage.idp.script(|script| script.discovery_issuer = None);
    pomerium_testing::within("an honest sign-in", async {
        while sign_in(&stage).await?.0 != 200 {}
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}

#[tokio::test]
async fn an_error_of_the_provider_is_a_page_with_its_code_alone() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let callback = crate::forge::walk_to(&client, &stage.env.url("app", "/"), |path| {
        path == "/oauth2/callback"
    })
    .await?;
    let state = callback.split("state=").nth(1).context("a state")?;
    let url = stage.env.url(
        "auth",
        &format!("/oauth2/callback?error=access_denied&error_description=call+0800-EVIL&error_uri=https%3A%2F%2Fevil.example.org&state={state}"),
    );
    let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
    assert!(reply.status.is_client_error(), "{}", reply.status);
    let page = reply.text();
    assert!(
        !page.contains("0800-EVIL") && !page.contains("evil.example.org"),
        "{page}"
    );
    assert!(stage.idp.seen().iter().all(|path| path != "/token"));
    Ok(())
}
