//! Internal endpoints (Pomerium CVE-2022-24797, Envoy Gateway CVE-2025-24030): nothing for operators
//! answers on the listener for people.

use anyhow::Result;
use pomerium_testing::{Environment, Route, SignIn, Upstream, lease};
use pomerium_tests::{developer, scripted};

#[tokio::test]
async fn nothing_for_operators_on_the_public_listener() -> Result<()> {
    let stage = scripted().await?;
    stage.upstream.reply_with(299, &[], "the application");
    for host in ["auth", "nowhere", "app"] {
        for path in [
            "/metrics",
            "/metrics/envoy",
            "/debug/pprof/",
            "/debug/vars",
            "/config_dump",
            "/readyz",
            "/startupz",
            "/status",
            "/stats",
            "/server_info",
            "/clusters",
            "/-/config",
            "/versioned_config",
            "/databroker/",
        ] {
            let reply = stage.api(&stage.env.client()?, host, path).await?;
            assert!(
                reply.status.is_client_error(),
                "{host}{path}: {} {}",
                reply.status,
                reply.text()
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_health_listener_is_for_health_alone() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    for path in ["/startupz", "/readyz", "/healthz"] {
        assert_eq!(
            client.get(&stage.env.health_url(path)).await?.status,
            200,
            "{path}"
        );
    }
    for path in ["/", "/metrics", "/.pomerium/", "/debug/pprof/", "/config_dump"] {
        assert_eq!(
            client.get(&stage.env.health_url(path)).await?.status,
            404,
            "{path}"
        );
    }
    Ok(())
}

/// Routes are there for what is judged and where people come from; only a proxy forwards.
#[tokio::test]
async fn a_process_that_is_no_proxy_forwards_nothing() -> Result<()> {
    let (upstream, port) = (Upstream::start().await?, lease()?);
    let env = Environment::builder()?
        .set("services", "authenticate,authorize,databroker")
        .set("grpc_address", format!("127.0.0.1:{}", port.number()))
        .sign_in(SignIn::Local(vec![developer()]))
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let reply = env.client()?.get(&env.url("open", "/")).await?;
    assert_eq!(reply.status, 404);
    assert!(upstream.take_requests().is_empty());
    Ok(())
}
