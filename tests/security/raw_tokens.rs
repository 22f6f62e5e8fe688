//! Tokens where they do not belong (Pomerium CVE-2024-39315; traefik CVE-2022-23469): no page, no answer
//! and no log line holds one.

use anyhow::{Context, Result};
use pomerium_tests::scripted;

#[tokio::test]
async fn no_endpoint_and_no_log_line_gives_a_token_away() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let cookie = client
        .cookie(&stage.env.url("app", "/"), "_pomerium")
        .context("no cookie")?;
    let paths = [
        "/.pomerium/",
        "/.pomerium/user",
        "/.pomerium/routes",
        "/.pomerium/api/v1/routes",
        "/.pomerium/jwt",
    ];
    for host in ["app", "auth"] {
        for path in paths {
            for accept in ["text/html", "application/json"] {
                let reply = client
                    .get_with(&stage.env.url(host, path), &[("accept", accept)])
                    .await?;
                let text = reply.text();
                assert!(
                    !text.contains("the-access-token"),
                    "{host}{path}: an access token"
                );
                assert!(!text.contains("eyJ"), "{host}{path}: a JWT:\n{text}");
            }
        }
    }
    client
        .get(
            &stage
                .env
                .url("app", &format!("/x?pomerium_session={cookie}&code=secret")),
        )
        .await?;
    let signature = cookie.rsplit('.').next().unwrap_or_default();
    for line in stage.env.log().all() {
        assert!(!line.contains(signature), "the session in the log: {line}");
        assert!(
            !line.contains("the-access-token"),
            "an access token in the log: {line}"
        );
        assert!(!line.contains("the-code"), "a code in the log: {line}");
    }
    Ok(())
}
