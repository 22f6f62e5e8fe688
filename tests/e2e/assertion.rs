//! The identity that the application gets, checked by a JOSE library that is not ours.

use anyhow::{Context, Result};
use pomerium_testing::{Program, tools};
use pomerium_tests::scripted;
use serde_json::{Value, json};

/// Verifies a token with npm's `jose` against a key set.
async fn verify(token: &str, jwks: &Value, issuer: &str, audience: &str) -> Result<Value> {
    let mut command = tools::node("jose.mjs")?;
    let task = json!({ "token": token, "jwks": jwks, "issuer": issuer, "audience": audience });
    command.env("JOSE_TASK", task.to_string());
    let program = Program::start(command)?;
    program
        .output()
        .wait_json(0, "the verdict", |line| line.get("valid").is_some())
        .await
}

#[tokio::test]
async fn another_jose_library_accepts_the_assertion_and_refuses_a_changed_one() -> Result<()> {
    let stage = scripted().await?;
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

    let reply = client
        .get(&stage.env.url("app", "/.well-known/pomerium/jwks.json"))
        .await?;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let jwks = reply.json()?;
    // authentication.md 14: public parts only.
    assert!(
        jwks["keys"]
            .as_array()
            .is_some_and(|keys| keys.iter().all(|key| key.get("d").is_none())),
        "{jwks}"
    );

    let verdict = verify(token, &jwks, "app.example.com", "app.example.com").await?;
    assert_eq!(verdict["valid"], true, "{verdict}");
    assert_eq!(verdict["header"]["alg"], "ES256");
    assert_eq!(verdict["claims"]["email"], "developer@example.com");
    assert_eq!(verdict["claims"]["sub"], "id-developer");
    let lifetime = verdict["claims"]["exp"]
        .as_i64()
        .zip(verdict["claims"]["iat"].as_i64())
        .map(|(exp, iat)| exp - iat);
    assert!(
        lifetime.is_some_and(|seconds| (60..=600).contains(&seconds)),
        "{verdict}"
    );

    let forged = format!("{}x{}", &token[..token.len() - 10], &token[token.len() - 9..]);
    assert_eq!(
        verify(&forged, &jwks, "app.example.com", "app.example.com").await?["valid"],
        false
    );
    assert_eq!(
        verify(token, &jwks, "app.example.com", "other.example.com").await?["valid"],
        false
    );
    Ok(())
}

#[tokio::test]
async fn a_public_route_gets_no_claims_of_nobody() -> Result<()> {
    let stage = scripted().await?;
    stage.env.client()?.get(&stage.env.url("open", "/")).await?;
    let request = stage
        .upstream
        .requests()
        .pop()
        .context("the application was asked")?;
    assert_eq!(request.header("x-pomerium-claim-email").unwrap_or_default(), "");
    if let Some(token) = request.header("x-pomerium-jwt-assertion") {
        let claims = pomerium_tests::payload(token);
        assert!(claims.get("email").is_none_or(|email| email == ""), "{claims}");
    }
    Ok(())
}
