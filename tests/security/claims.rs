//! Claims (oauth2-proxy CVE-2026-40574; Pomerium CVE-2021-41230): an address with two `@` is in no domain,
//! and what a new sign-in says counts at once.

use anyhow::Result;
use pomerium_testing::Route;
use pomerium_tests::scripted_with;
use serde_json::{Value, json};

async fn status_with(claims: Value) -> Result<u16> {
    let stage = scripted_with(|builder| {
        builder.route(
            Route::new("domain", "http://127.0.0.1:9")
                .policy(json!([{ "allow": { "or": [{ "domain": { "is": "example.com" } }] } }])),
        )
    })
    .await?;
    stage.idp.script(|script| script.claims = claims);
    let client = stage.env.client()?;
    Ok(client
        .follow(&stage.env.url("domain", "/"))
        .await?
        .status
        .as_u16())
}

#[tokio::test]
async fn only_one_address_of_the_domain_is_in_the_domain() -> Result<()> {
    // 503: let through, and nobody listens behind it.
    assert_eq!(
        status_with(json!({ "sub": "a", "email": "a@example.com", "email_verified": true })).await?,
        503
    );
    for email in [
        "a@example.com@evil.example.org",
        "a@evil.example.org@example.com",
        "example.com",
        "@example.com@",
        "a@example.com.evil.example.org",
        "a@notexample.com",
        "a@example.com\u{0}",
        "",
    ] {
        let status = status_with(json!({ "sub": "a", "email": email, "email_verified": true })).await?;
        assert_ne!(status, 503, "{email:?} was let through");
    }
    Ok(())
}

#[tokio::test]
async fn a_group_that_is_taken_away_is_gone_at_the_next_sign_in() -> Result<()> {
    let stage = pomerium_tests::scripted().await?;
    let claims = |groups: Value| json!({ "sub": "id-developer", "email": "developer@example.com", "email_verified": true, "groups": groups });
    stage
        .idp
        .script(|script| script.claims = claims(json!(["admins"])));
    let client = stage.signed_in().await?;
    assert_eq!(client.follow(&stage.env.url("admin", "/")).await?.status, 200);
    stage
        .idp
        .script(|script| script.claims = claims(json!(["staff"])));
    let again = stage.signed_in().await?;
    assert_eq!(again.follow(&stage.env.url("admin", "/")).await?.status, 403);
    // The same person everywhere: the user record is shared, so the older session loses the group too.
    assert_eq!(stage.api(&client, "admin", "/").await?.status, 403);
    Ok(())
}
