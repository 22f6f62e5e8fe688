//! Hosts that are not ours (Pomerium CVE-2021-29651 and its kind). Whoever asks under a name says nothing about whose the
//! name is: no link is signed that leads there, no session arrives there, and nobody is sent there to sign in.

use anyhow::Result;
use pomerium_testing::{RawReply, Route};
use pomerium_tests::{Stage, scripted, scripted_with};

const STRANGER: &str = "app.attacker.example";

async fn ask<I>(stage: &Stage<I>, host: &str, path: &str, accept: &str) -> Result<RawReply> {
    let mut client = stage.env.raw("app").await?;
    let port = stage.env.port();
    client
        .send(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        ))
        .await?;
    client.reply(false).await
}

#[tokio::test]
async fn our_own_paths_sign_nothing_for_strangers() -> Result<()> {
    let stage = scripted().await?;
    for path in [
        "/.pomerium/api/v1/login?pomerium_redirect_uri=http%3A%2F%2Flocalhost%3A1%2F",
        "/.pomerium/",
        "/.pomerium/user",
        "/.pomerium/jwt",
        "/.pomerium/routes",
        "/.pomerium/api/v1/routes",
        "/.pomerium/sign_out",
        "/.pomerium/webauthn",
        "/.pomerium/callback",
        "/.pomerium/callback/?pomerium_session_encrypted=x",
    ] {
        for accept in ["text/html", "application/json"] {
            let reply = ask(&stage, STRANGER, path, accept).await?;
            assert_eq!(reply.status, 404, "{path} {accept}: {reply:?}");
            assert_eq!(reply.header("location"), None, "{path}");
            assert!(!reply.text().contains("pomerium_signature"), "{path}");
        }
    }
    // What says nothing about anybody is answered as ever.
    assert_eq!(ask(&stage, STRANGER, "/ping", "*/*").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn nobody_signs_in_at_a_name_that_anybody_can_register() -> Result<()> {
    for (from, host) in [
        ("https://*", STRANGER),
        ("https://app.*", STRANGER),
        ("https://*.org", "app.example.org"),
    ] {
        let stage = scripted_with(|builder| {
            let everywhere = Route::new("everywhere", "http://127.0.0.1:1").any_user();
            builder.route(everywhere.set("from", from))
        })
        .await?;
        for (accept, path) in [
            ("text/html", "/"),
            ("application/json", "/"),
            ("text/html", "/.pomerium/user"),
        ] {
            let reply = ask(&stage, host, path, accept).await?;
            assert_eq!(reply.status, 403, "{from} {path}: {reply:?}");
            assert_eq!(reply.header("location"), None, "{from} {path}");
            assert!(!reply.text().contains("pomerium_signature"), "{from} {path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn people_sign_in_at_every_host_below_a_domain_of_ours() -> Result<()> {
    let stage = scripted_with(|builder| {
        let below = Route::new("below", "http://127.0.0.1:1").any_user();
        builder.route(below.set("from", "https://*.example.com"))
    })
    .await?;
    let reply = ask(&stage, "anything.example.com", "/", "text/html").await?;
    assert_eq!(reply.status, 302);
    assert!(
        reply
            .header("location")
            .is_some_and(|to| to.contains("pomerium_signature"))
    );
    Ok(())
}
