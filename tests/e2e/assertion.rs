//! The identity that the application gets, checked by a JOSE library that is not ours.

use anyhow::{Context, Result};
use pomerium_testing::{Program, tools};
use pomerium_tests::{Stage, scripted, scripted_with};
use serde_json::{Value, json};

const RSA: &str = include_str!("../../crates/crypto/testdata/rsa-pkcs1.pem");

/// Verifies a token with npm's `jose` against a key set.
async fn verify(token: &str, jwks: &Value, issuer: &str, audience: &str) -> Result<Value> {
    verify_with("ES256", token, jwks, (issuer, audience)).await
}

async fn verify_with(
    algorithm: &str,
    token: &str,
    jwks: &Value,
    (issuer, audience): (&str, &str),
) -> Result<Value> {
    let mut command = tools::node("jose.mjs")?;
    let task = json!({ "token": token, "jwks": jwks, "issuer": issuer, "audience": audience, "algorithms": [algorithm] });
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

    let (kept, changed) = token.split_at(token.len() - 10);
    let other = if changed.starts_with('x') { 'y' } else { 'x' };
    let forged = format!("{kept}{other}{}", &changed[1..]);
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

/// The assertion and the key set that an application of `stage` gets.
async fn assertion<I>(stage: &Stage<I>, client: &pomerium_testing::Client) -> Result<(String, Value)> {
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    let token = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?;
    let jwks = client
        .get(&stage.env.url("app", "/.well-known/pomerium/jwks.json"))
        .await?;
    Ok((token.to_owned(), jwks.json()?))
}

#[tokio::test]
async fn an_rsa_key_signs_rs256_with_the_issuer_as_an_address() -> Result<()> {
    let stage = scripted_with(|builder| {
        builder
            .set("signing_key", RSA)
            .set("jwt_issuer_format", "uri")
            .set("jwt_claims_headers", json!(["email", "groups"]))
    })
    .await?;
    stage
        .idp
        .script(|script| script.claims["groups"] = json!(["staff", "dev"]));
    let client = stage.signed_in().await?;
    let (token, jwks) = assertion(&stage, &client).await?;
    let (issuer, audience) = ("https://app.example.com/", "app.example.com");
    let verdict = verify_with("RS256", &token, &jwks, (issuer, audience)).await?;
    assert_eq!(verdict["valid"], true, "{verdict}");
    assert_eq!(verdict["header"]["kid"], jwks["keys"][0]["kid"]);
    assert_eq!(verdict["claims"]["groups"], json!(["staff", "dev"]), "{verdict}");
    assert!(verdict["claims"]["aud"].is_string(), "one audience, not a list");
    let other = verify_with("RS256", &token, &jwks, (audience, audience)).await?;
    assert_eq!(other["valid"], false, "the issuer is an address here");

    client.get(&stage.env.url("app", "/")).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    assert_eq!(
        request.header("x-pomerium-claim-email"),
        Some("developer@example.com"),
        "a list of claims makes headers of its own"
    );
    assert_eq!(request.header("x-pomerium-claim-groups"), Some("staff,dev"));
    Ok(())
}

#[tokio::test]
async fn another_library_refuses_what_we_did_not_sign() -> Result<()> {
    use pomerium_crypto::{encoding::base64url_encode, jwt::SigningKey, mac};
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let (token, jwks) = assertion(&stage, &client).await?;
    let payload = token.split('.').nth(1).context("no payload")?.to_owned();
    let claims = pomerium_tests::payload(&token);
    let kid = jwks["keys"][0]["kid"].clone();
    let part = |value: &Value| base64url_encode(value.to_string().as_bytes());
    let none = format!("{}.{payload}.", part(&json!({ "alg": "none", "kid": kid })));
    let head = format!("{}.{payload}", part(&json!({ "alg": "HS256", "kid": kid })));
    let secret = jwks["keys"][0].to_string();
    let confused = format!(
        "{head}.{}",
        base64url_encode(&mac::hmac_sha256(secret.as_bytes(), head.as_bytes()))
    );
    let stranger = SigningKey::random().sign(&claims)?;
    for (what, forged) in [("none", &none), ("HS256", &confused), ("another key", &stranger)] {
        let verdict = verify(forged, &jwks, "app.example.com", "app.example.com").await?;
        assert_eq!(verdict["valid"], false, "{what}");
    }
    let verdict = verify(&token, &jwks, "app.example.com", "app.example.com").await?;
    assert_eq!(verdict["valid"], true, "the true one: {verdict}");
    Ok(())
}
