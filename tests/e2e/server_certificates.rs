//! Server certificates that come from the shared secret alone, and figures about those that end.

use anyhow::Result;
use pomerium_testing::{Environment, Route, Upstream, lease};
use serde_json::json;

#[tokio::test]
async fn services_with_one_secret_trust_each_other_without_files() -> Result<()> {
    // One process is the upstream of the other; they share a secret and no file.
    let upstream = Upstream::start().await?;
    let inner = Environment::builder()?
        .set("tls_derive", "pomerium.internal")
        .set("certificate_file", json!(null))
        .set("certificate_key_file", json!(null))
        .route(Route::new("app", &upstream.url()).public())
        .start()
        .await?;
    let to = format!("https://127.0.0.1:{}", inner.port());
    let route = |name: &str, tls_name: &str| {
        Route::new(name, &to)
            .public()
            .set("tls_upstream_server_name", tls_name)
            .set("host_rewrite", inner.authority_of("app"))
    };
    for (derive, status) in [(Some("outer.internal"), 200), (None, 503)] {
        let mut builder = Environment::builder()?.route(route("good", "pomerium.internal"));
        if let Some(domain) = derive {
            builder = builder.set("tls_derive", domain);
        }
        let outer = builder.start().await?;
        let client = outer.client()?;
        let good = client.get(&outer.url("good", "/")).await?;
        assert_eq!(good.status, status, "{derive:?}: {}", good.text());
    }
    Ok(())
}

#[tokio::test]
async fn the_end_of_each_certificate_is_measured() -> Result<()> {
    let metrics = lease()?;
    let env = Environment::builder()?
        .set("metrics_address", format!("127.0.0.1:{}", metrics.number()))
        .start()
        .await?;
    let url = format!("http://127.0.0.1:{}/metrics", metrics.number());
    let text = env.client()?.get(&url).await?.text();
    for name in ["*.example.com", "127.0.0.1"] {
        let wanted = |line: &&str| {
            line.starts_with("pomerium_certificate_expiry_timestamp_seconds")
                && line.contains(&format!("name=\"{name}\""))
        };
        let line = text.lines().find(wanted).unwrap_or_default();
        let end: f64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
        assert!(end > 1.7e9, "{line}");
    }
    assert!(text.contains("pomerium_certificate_next_expiry_timestamp_seconds"));
    Ok(())
}
