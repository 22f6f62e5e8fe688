//! Health-check user agents (oauth2-proxy CVE-2026-34457): no name opens a door.

use anyhow::Result;
use pomerium_tests::scripted;

#[tokio::test]
async fn no_user_agent_skips_the_decision() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    for agent in [
        "GoogleHC/1.0",
        "kube-probe/1.30",
        "ELB-HealthChecker/2.0",
        "kubernetes/1.30",
        "Envoy/HC",
        "",
    ] {
        for path in ["/", "/ping/..", "/healthz/x", "/robots.txt"] {
            let headers = [("accept", "application/json"), ("user-agent", agent)];
            client.get_with(&stage.env.url("app", path), &headers).await?;
        }
    }
    assert!(
        stage.upstream.requests().is_empty(),
        "{:?}",
        stage.upstream.requests()
    );
    Ok(())
}
