//! Tokens used for what they were not made for (Pomerium CVE-2024-47616; Envoy CVE-2022-29226).

use anyhow::{Context, Result};
use pomerium_tests::scripted;

#[tokio::test]
async fn no_other_token_passes_for_a_session() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage
        .upstream
        .take_requests()
        .pop()
        .context("the application was asked")?;
    let assertion = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?
        .to_owned();
    for token in [assertion.as_str(), "the-access-token", "x.y.z", "e30.e30.e30"] {
        let stranger = stage.env.client()?;
        for (name, value) in [
            ("authorization", format!("Pomerium {token}")),
            ("authorization", format!("Bearer Pomerium-{token}")),
            ("authorization", format!("Bearer {token}")),
            ("x-pomerium-authorization", token.to_owned()),
            ("x-pomerium-jwt-assertion", token.to_owned()),
        ] {
            let headers = [("accept", "application/json"), (name, value.as_str())];
            let reply = stranger.get_with(&stage.env.url("app", "/"), &headers).await?;
            assert!(
                reply.status.is_client_error(),
                "{name}: {value}: {}",
                reply.status
            );
        }
        let query = stage.env.url("app", &format!("/?pomerium_session={token}"));
        assert!(
            stranger
                .get_with(&query, &[("accept", "application/json")])
                .await?
                .status
                .is_client_error()
        );
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn each_host_has_a_cookie_of_its_own() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let (app, auth) = (stage.env.url("app", "/"), stage.env.url("auth", "/"));
    assert!(client.cookie(&app, "_pomerium").is_some());
    assert!(client.cookie(&auth, "_pomerium_authenticate").is_some());
    assert_eq!(client.cookie(&auth, "_pomerium"), None, "each host has its own");
    assert_eq!(
        client.cookie(&app, "_pomerium_authenticate"),
        None,
        "each host has its own"
    );
    Ok(())
}
