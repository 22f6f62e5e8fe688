//! Options of signing in that have no other test: each has its effect through the real program.

use anyhow::{Context, Result};
use pomerium_tests::{payload, scripted, scripted_with};
use serde_json::json;

/// Follows redirects to the end; returns every address and every cookie on the way.
async fn walk(client: &pomerium_testing::Client, url: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut addresses, mut cookies) = (Vec::new(), Vec::new());
    let mut reply = client.get(url).await?;
    loop {
        let set = reply.headers.get_all("set-cookie").iter();
        cookies.extend(set.filter_map(|value| value.to_str().ok().map(str::to_owned)));
        let Some(next) = reply.location() else {
            return Ok((addresses, cookies));
        };
        anyhow::ensure!(addresses.len() < 12, "going round in circles: {addresses:?}");
        addresses.push(next.to_string());
        reply = client.get(next.as_str()).await?;
    }
}

#[tokio::test]
async fn scopes_and_extra_parameters_reach_the_provider() -> Result<()> {
    let stage = scripted_with(|builder| {
        builder
            .set("idp_scopes", json!(["openid", "email", "own-scope"]))
            .set(
                "idp_request_params",
                json!({ "prompt": "consent", "hd": "example.com" }),
            )
    })
    .await?;
    let (addresses, _) = walk(&stage.env.client()?, &stage.env.url("app", "/")).await?;
    let issuer = stage.idp.issuer();
    let asked = addresses
        .iter()
        .find(|url| url.starts_with(&issuer))
        .context("the provider was not asked")?;
    assert!(
        asked.contains("scope=openid+email+own-scope") || asked.contains("scope=openid%20email%20own-scope"),
        "{asked}"
    );
    assert!(
        asked.contains("prompt=consent") && asked.contains("hd=example.com"),
        "{asked}"
    );
    Ok(())
}

#[tokio::test]
async fn the_session_cookie_is_hidden_from_scripts_unless_told_otherwise() -> Result<()> {
    for (hidden, stage) in [
        (true, scripted().await?),
        (
            false,
            scripted_with(|builder| builder.set("cookie_http_only", false)).await?,
        ),
    ] {
        let (_, cookies) = walk(&stage.env.client()?, &stage.env.url("app", "/")).await?;
        let session = cookies
            .iter()
            .find(|cookie| cookie.starts_with("_pomerium="))
            .context("no session cookie")?;
        assert_eq!(session.to_lowercase().contains("httponly"), hidden, "{session}");
    }
    Ok(())
}

#[tokio::test]
async fn the_issuer_of_the_assertion_is_a_host_or_an_address() -> Result<()> {
    for (format, issuer) in [
        ("hostOnly", "app.example.com"),
        ("uri", "https://app.example.com/"),
    ] {
        let stage = scripted_with(|builder| builder.set("jwt_issuer_format", format)).await?;
        let client = stage.signed_in().await?;
        client.get(&stage.env.url("app", "/")).await?;
        let request = stage
            .upstream
            .requests()
            .pop()
            .context("the application was asked")?;
        let token = request
            .header("x-pomerium-jwt-assertion")
            .context("no assertion")?;
        assert_eq!(payload(token)["iss"], issuer, "{format}");
    }
    Ok(())
}
