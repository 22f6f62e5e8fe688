//! Forwarded headers from peers that are trusted and from peers that are not (oathkeeper CVE-2026-33494,
//! oauth2-proxy CVE-2026-40575): only the first may say who the client is.

use anyhow::{Context, Result};
use pomerium_testing::{Environment, Route, SignIn, Upstream};
use serde_json::{Value, json};

async fn stage(settings: &[(&str, Value)]) -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let inner = json!([{ "allow": { "or": [{ "source_ip": "10.0.0.0/8" }] } }]);
    let mut builder = Environment::builder()?
        .sign_in(SignIn::Oidc("http://127.0.0.1:9".into()))
        .route(Route::new("open", &upstream.url()).public())
        .route(Route::new("inner", &upstream.url()).policy(inner));
    for (key, value) in settings {
        builder = builder.set(key, value.clone());
    }
    Ok((builder.start().await?, upstream))
}

/// Whether the address rule of `inner` holds for a request with these headers.
async fn counts_as_inner(env: &Environment, headers: &[(&str, &str)]) -> Result<bool> {
    let client = env.http1_client()?;
    let headers = [&[("accept", "application/json")], headers].concat();
    let status = client.get_with(&env.url("inner", "/"), &headers).await?.status;
    anyhow::ensure!(matches!(status.as_u16(), 200 | 401 | 403 | 400), "{status}");
    Ok(status == 200)
}

#[tokio::test]
async fn an_address_is_believed_from_trusted_peers_only() -> Result<()> {
    let inside = ("x-forwarded-for", "10.1.2.3");
    let (env, upstream) = stage(&[("trusted_proxies", json!(["192.0.2.0/24"]))]).await?;
    assert!(
        !counts_as_inner(&env, &[inside]).await?,
        "this peer is not on the list"
    );
    assert!(upstream.requests().is_empty());

    let (env, upstream) = stage(&[("trusted_proxies", json!(["127.0.0.1/32"]))]).await?;
    assert!(counts_as_inner(&env, &[inside]).await?, "the list works");
    upstream.take_requests();
    for (name, headers) in [
        ("nothing said", &[][..]),
        ("another header", &[("x-real-ip", "10.1.2.3")]),
        ("RFC 7239", &[("forwarded", "for=10.1.2.3")]),
        // The client wrote the left, the trusted peer the right.
        (
            "claimed by the client",
            &[("x-forwarded-for", "10.1.2.3, 203.0.113.9")],
        ),
        (
            "in two fields",
            &[
                ("x-forwarded-for", "10.1.2.3"),
                ("x-forwarded-for", "203.0.113.9"),
            ],
        ),
        (
            "not an address",
            &[("x-forwarded-for", "10.1.2.3.evil.example.org")],
        ),
        ("with a blank", &[("x-forwarded-for", "10.1.2.3 203.0.113.9")]),
        ("as a name", &[("x-forwarded-for", "localhost")]),
    ] {
        assert!(!counts_as_inner(&env, headers).await?, "{name}");
    }
    assert!(upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn hops_are_counted_from_the_right() -> Result<()> {
    let (env, _upstream) = stage(&[("xff_num_trusted_hops", json!(1))]).await?;
    assert!(counts_as_inner(&env, &[("x-forwarded-for", "203.0.113.9, 10.1.2.3")]).await?);
    assert!(!counts_as_inner(&env, &[("x-forwarded-for", "10.1.2.3, 203.0.113.9")]).await?);
    assert!(!counts_as_inner(&env, &[]).await?);
    Ok(())
}

#[tokio::test]
async fn even_a_trusted_peer_does_not_choose_route_or_identity() -> Result<()> {
    let (env, upstream) = stage(&[("trusted_proxies", json!(["127.0.0.0/8"]))]).await?;
    let client = env.client()?;
    let headers = [
        ("accept", "application/json"),
        ("x-forwarded-host", "open.example.com"),
        ("x-forwarded-uri", "/open"),
        ("x-original-url", "/open"),
        ("x-rewrite-url", "/open"),
    ];
    let reply = client.get_with(&env.url("inner", "/"), &headers).await?;
    assert!(matches!(reply.status.as_u16(), 401 | 403), "{}", reply.status);
    assert!(upstream.requests().is_empty());
    let headers = [
        ("x-pomerium-jwt-assertion", "spoofed"),
        ("x-pomerium-claim-email", "spoofed"),
        ("x-envoy-original-path", "/spoofed"),
    ];
    client.get_with(&env.url("open", "/"), &headers).await?;
    let request = upstream.take_requests().pop().context("a request")?;
    let spoofed = |pair: &(String, String)| pair.1.contains("spoofed");
    assert!(!request.headers.iter().any(spoofed), "{:?}", request.headers);
    Ok(())
}
