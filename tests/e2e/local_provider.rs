//! The built-in provider takes the same path as any other.

use anyhow::Result;
use pomerium_tests::{developer, local};

#[tokio::test]
async fn a_client_without_scripts_signs_in_and_out() -> Result<()> {
    let stage = local().await?;
    let client = stage.env.client()?;
    let page = client.follow(&stage.env.url("app", "/deep?x=1")).await?;
    let reply = client
        .sign_in(&page, "developer@example.com", developer().password())
        .await?;
    assert_eq!(
        (reply.status.as_u16(), reply.url.as_str()),
        (200, stage.env.url("app", "/deep?x=1").as_str())
    );

    // Another host: no second sign-in page.
    let reply = client.follow(&stage.env.url("ws", "/")).await?;
    assert_eq!(reply.status, 200);

    let me = stage.api(&client, "app", "/.pomerium/user").await?.json()?;
    assert_eq!(me["email"], "developer@example.com");
    assert_eq!(me["groups"], serde_json::json!(["staff"]));

    let page = client
        .follow(&stage.env.url("app", "/.pomerium/sign_out"))
        .await?;
    let page = if page.text().contains("<form") {
        client.submit_form(&page, "sign_out").await?
    } else {
        page
    };
    assert!(page.text().contains("signed out"), "{}", page.text());
    assert_eq!(stage.api(&client, "app", "/").await?.status, 401);
    assert_eq!(
        stage.api(&client, "ws", "/").await?.status,
        401,
        "ends everywhere"
    );
    Ok(())
}
