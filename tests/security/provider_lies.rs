//! Providers that lie, break or are gone (zitadel CVE-2026-55669; JWT classics): nobody is signed in, the
//! page says so, and a provider that comes back to its senses works again.

use anyhow::Result;
use pomerium_testing::Script;
use pomerium_tests::scripted;
use serde_json::json;

/// How a correct script becomes a lie.
type Lie = Box<dyn Fn(&mut Script)>;

#[tokio::test]
async fn no_lie_of_a_provider_signs_anyone_in() -> Result<()> {
    let stage = scripted().await?;
    let lies: Vec<(&str, Lie)> = vec![
        (
            "another issuer",
            Box::new(|s| s.overrides = json!({ "iss": "https://evil.example.org" })),
        ),
        (
            "issuer with a slash",
            Box::new(|s| s.overrides = json!({ "iss": "http://127.0.0.1/" })),
        ),
        (
            "another audience",
            Box::new(|s| s.overrides = json!({ "aud": "someone else" })),
        ),
        ("no audience", Box::new(|s| s.overrides = json!({ "aud": null }))),
        ("expired", Box::new(|s| s.overrides = json!({ "exp": 1_000_000 }))),
        ("no expiry", Box::new(|s| s.overrides = json!({ "exp": null }))),
        (
            "issued in the future",
            Box::new(|s| s.overrides = json!({ "iat": 4_000_000_000_u64, "nbf": 4_000_000_000_u64 })),
        ),
        (
            "another nonce",
            Box::new(|s| s.overrides = json!({ "nonce": "stolen" })),
        ),
        ("no nonce", Box::new(|s| s.overrides = json!({ "nonce": null }))),
        ("no subject", Box::new(|s| s.overrides = json!({ "sub": null }))),
        ("alg none", Box::new(|s| s.algorithm = "none")),
        ("HS256 with the public key", Box::new(|s| s.algorithm = "HS256")),
        ("a key nobody knows", Box::new(|s| s.unpublished_key = true)),
        (
            "userinfo of someone else",
            Box::new(|s| s.userinfo_sub = Some("id-stranger".into())),
        ),
        ("no token", Box::new(|s| s.token_reply = Some((200, "{}".into())))),
        (
            "not JSON",
            Box::new(|s| s.token_reply = Some((200, "<html>".into()))),
        ),
        (
            "an error",
            Box::new(|s| s.token_reply = Some((400, r#"{"error":"invalid_grant"}"#.into()))),
        ),
        (
            "a failure",
            Box::new(|s| s.token_reply = Some((500, String::new()))),
        ),
    ];
    for (name, lie) in lies {
        stage.idp.script(|script| {
            *script = Script::default();
            lie(script);
        });
        let client = stage.env.client()?;
        let reply = client.follow(&stage.env.url("app", "/")).await?;
        assert!(
            reply.status.is_client_error() || reply.status.is_server_error(),
            "{name}: {} {}",
            reply.status,
            reply.url
        );
        assert_eq!(
            client.cookie(&stage.env.url("app", "/"), "_pomerium"),
            None,
            "{name}"
        );
        assert!(reply.text().contains("<h1>"), "{name}: a page that says so");
        assert_eq!(
            reply.text().contains("The provider decides"),
            name == "an error",
            "{name}: and who it was that refused"
        );
    }
    assert!(stage.upstream.requests().is_empty());
    stage.idp.script(|script| *script = Script::default());
    stage.signed_in().await?;
    Ok(())
}

#[tokio::test]
async fn a_rotated_key_is_fetched_when_the_first_token_names_it() -> Result<()> {
    let stage = scripted().await?;
    stage.signed_in().await?;
    stage.idp.rotate_key()?;
    stage.signed_in().await?;
    let asked = stage.idp.seen().iter().filter(|path| *path == "/jwks").count();
    assert_eq!(asked, 2, "once at first, once for the new key");
    Ok(())
}

#[tokio::test]
async fn a_provider_that_is_gone_is_said_to_be_gone() -> Result<()> {
    let stage = scripted().await?;
    let pomerium_tests::Stage { env, upstream, idp } = stage;
    drop(idp);
    let reply = env.client()?.follow(&env.url("app", "/")).await?;
    assert!(matches!(reply.status.as_u16(), 502..=504), "{}", reply.status);
    assert!(upstream.requests().is_empty());
    assert_eq!(
        env.client()?.get(&env.url("open", "/")).await?.status,
        200,
        "public routes go on"
    );
    Ok(())
}
