//! Programs that meet a policy about devices: told in their own words, and never let through.

use anyhow::{Context, Result};
use pomerium_testing::{Route, SoftKey};
use pomerium_tests::devices::Asked;
use pomerium_tests::scripted_with;
use serde_json::json;

#[tokio::test]
async fn a_program_is_told_where_a_person_can_show_a_device() -> Result<()> {
    let policy = |device| json!([{ "allow": { "and": [{ "device": device }] } }]);
    let stage = scripted_with(|builder| {
        let url = "http://127.0.0.1:1";
        builder
            .route(Route::new("work", url).policy(policy(json!({ "type": "any" }))))
            .route(Route::new("vault", url).policy(policy(json!({ "approved": true }))))
    })
    .await?;
    let client = stage.env.client()?;
    // Signs in on the way, and ends at the page.
    let page = client.follow(&stage.env.url("work", "/inside")).await?;
    assert!(page.url.path().ends_with("/webauthn"), "{}", page.url);

    let url = stage.env.url("work", "/inside");
    for headers in [
        &[("accept", "application/json")][..],
        &[("x-requested-with", "XMLHttpRequest")],
        &[("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin")],
    ] {
        let reply = client.get_with(&url, headers).await?;
        assert_eq!(reply.status, 401, "{headers:?}");
        let body = reply.json()?;
        assert_eq!(
            (&body["error"], &body["code"]),
            (&json!("Unauthenticated"), &json!("device-needed"))
        );
        let link = body["login_url"].as_str().context("a link")?;
        Asked::of(&client.get(link).await?)?;
    }
    let reply = client
        .get_with(&url, &[("content-type", "application/grpc")])
        .await?;
    assert_eq!(
        (reply.status.as_u16(), reply.header("grpc-status")),
        (401, Some("16"))
    );
    let reply = client
        .get_with(
            &url,
            &[
                ("user-agent", "kubectl kubernetes/x"),
                ("accept", "application/json"),
            ],
        )
        .await?;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()?["reason"]),
        (401, &json!("Unauthorized"))
    );
    let reply = client.get(&stage.env.url("work", "/robots.txt")).await?;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (200, None));

    assert_eq!(
        Asked::of(&page)?
            .register(&client, &SoftKey::new(b"key")?)
            .await?
            .status,
        302
    );
    // Behind the policy nothing listens: 503 is the application's.
    assert_eq!(client.get(&url).await?.status, 503);
    client.follow(&stage.env.url("vault", "/")).await?;
    let reply = client
        .get_with(&stage.env.url("vault", "/"), &[("accept", "application/json")])
        .await?;
    assert_eq!(reply.status, 450);
    let said = "your device fails to meet the requirements necessary to access this page, please contact your administrator for assistance";
    assert_eq!(reply.json()?["error"], said);
    Ok(())
}

/// The page itself is no way around a policy: it is reached with the session alone, and so is nothing else.
#[tokio::test]
async fn the_paths_of_the_page_are_exact() -> Result<()> {
    let stage = scripted_with(|builder| {
        let policy = json!([{ "allow": { "and": [{ "device": { "type": "any" } }] } }]);
        builder.route(Route::new("work", "http://127.0.0.1:1").policy(policy))
    })
    .await?;
    let client = stage.env.client()?;
    client.follow(&stage.env.url("work", "/")).await?;
    let get = async |path: &str| client.get(&stage.env.url("work", path)).await;
    assert_eq!(get("/.pomerium/device-enrolled").await?.status, 200);
    for path in [
        "/.pomerium/webauthn/",
        "/.pomerium/webauthn/x",
        "/.pomerium/device-enrolled/",
        "/.pomerium/Webauthn",
    ] {
        assert_eq!(get(path).await?.status, 404, "{path}");
    }
    for path in [
        "/x/../.pomerium/webauthn",
        "/%2epomerium/webauthn",
        "//.pomerium/webauthn",
        "/webauthn",
    ] {
        let reply = get(path).await?;
        assert!(
            matches!(reply.status.as_u16(), 302 | 307 | 400 | 404),
            "{path}: {}",
            reply.status
        );
    }
    Ok(())
}
