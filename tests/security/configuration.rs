//! Configuration that guards nothing (oauth2-proxy CVE-2021-21411; traefik CVE-2022-46153): what cannot be
//! honoured stops the start, by name.

use anyhow::Result;
use pomerium_testing::{Environment, Route, SignIn};
use serde_json::json;

#[tokio::test]
async fn a_protected_route_without_a_provider_stops_the_start() -> Result<()> {
    let (status, output) = Environment::builder()?
        .route(Route::new("app", "http://127.0.0.1:9").any_user())
        .refused()
        .await?;
    assert!(!status.success());
    let said = output.tail(50);
    assert!(said.contains("idp_provider"), "the remedy is named:\n{said}");
    Ok(())
}

#[tokio::test]
async fn a_key_without_effect_yet_stops_the_start_by_name() -> Result<()> {
    let route = Route::new("app", "http://127.0.0.1:9").public();
    for (key, value) in [
        ("audit", json!([{ "type": "file", "path": "/nowhere/audit.log" }])),
        ("external_data", json!([{ "name": "lists" }])),
        ("ssh_address", json!("127.0.0.1:9")),
    ] {
        let (status, output) = Environment::builder()?
            .set(key, value)
            .route(route.clone())
            .refused()
            .await?;
        let said = output.tail(50);
        assert!(!status.success(), "{key}");
        assert!(said.contains(key), "{key} is not named:\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_criterion_stops_the_start() -> Result<()> {
    let policy = json!([{ "allow": { "or": [{ "gruops": "admins" }] } }]);
    let (status, output) = Environment::builder()?
        .sign_in(SignIn::Oidc("http://127.0.0.1:9".into()))
        .route(Route::new("app", "http://127.0.0.1:9").policy(policy))
        .refused()
        .await?;
    assert!(!status.success());
    assert!(output.tail(50).contains("gruops"), "{}", output.tail(50));
    Ok(())
}

#[tokio::test]
async fn a_missing_authority_file_stops_the_start() -> Result<()> {
    let route = Route::new("app", "https://127.0.0.1:9")
        .public()
        .set("tls_custom_ca_file", "/nowhere/ca.pem");
    let (status, output) = Environment::builder()?.route(route).refused().await?;
    assert!(!status.success());
    assert!(output.tail(50).contains("/nowhere/ca.pem"), "{}", output.tail(50));
    Ok(())
}
