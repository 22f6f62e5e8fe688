//! Forwarded headers (oauth2-proxy CVE-2026-40575, oathkeeper CVE-2026-33494, -33495, zitadel
//! CVE-2025-64101): from strangers they say nothing about path, host, scheme or address.

use anyhow::{Context, Result};
use pomerium_tests::{scripted, scripted_with};

const CLAIMS: &[(&str, &str)] = &[
    ("x-forwarded-host", "evil.example.org"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-port", "80"),
    ("x-forwarded-uri", "/open"),
    ("x-forwarded-prefix", "/open"),
    ("x-original-url", "/open"),
    ("x-original-uri", "/open"),
    ("x-rewrite-url", "/open"),
    ("x-real-ip", "10.0.0.1"),
    ("true-client-ip", "10.0.0.1"),
    ("forwarded", "for=10.0.0.1;host=evil.example.org;proto=http"),
    ("x-envoy-original-path", "/open"),
    ("x-envoy-external-address", "10.0.0.1"),
];

#[tokio::test]
async fn they_do_not_choose_the_route_or_the_sign_in_address() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    for claim in CLAIMS {
        let headers = [("accept", "text/html"), *claim];
        let reply = client
            .get_with(&stage.env.url("app", "/closed"), &headers)
            .await?;
        assert_eq!(reply.status, 302, "{claim:?}");
        let location = reply.location().context("no location")?;
        assert!(
            location.as_str().starts_with(&stage.env.url("auth", "/")),
            "{claim:?}: {location}"
        );
        assert!(!location.as_str().contains("evil"), "{claim:?}: {location}");
        let back = location
            .query_pairs()
            .find(|(key, _)| key == "pomerium_redirect_uri")
            .map(|(_, value)| value.into_owned());
        assert_eq!(
            back.as_deref(),
            Some(stage.env.url("app", "/closed").as_str()),
            "{claim:?}"
        );
    }
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_application_gets_what_we_know_instead() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    client.get_with(&stage.env.url("open", "/"), CLAIMS).await?;
    let request = stage
        .upstream
        .take_requests()
        .pop()
        .context("the application was asked")?;
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        request.header("x-forwarded-host"),
        Some(stage.env.authority_of("open").as_str())
    );
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-envoy-original-path"), None);
    Ok(())
}

#[tokio::test]
async fn an_address_rule_judges_the_peer_not_the_header() -> Result<()> {
    let policy = serde_json::json!([{ "allow": { "or": [{ "source_ip": "10.0.0.0/8" }] } }]);
    let stage = scripted_with(|builder| {
        builder.route(pomerium_testing::Route::new("inner", "http://127.0.0.1:9").policy(policy))
    })
    .await?;
    let client = stage.env.client()?;
    let headers = [
        ("accept", "application/json"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
    ];
    let reply = client.get_with(&stage.env.url("inner", "/"), &headers).await?;
    assert!(matches!(reply.status.as_u16(), 401 | 403), "{}", reply.status);
    Ok(())
}
