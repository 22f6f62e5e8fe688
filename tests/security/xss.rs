//! What is shown (authelia CVE-2026-33525, caddy-security CVE-2024-21496): nothing a client sends becomes
//! markup, and the policy of every page allows no inline script or style.

use anyhow::Result;
use pomerium_tests::scripted;

const MARKUP: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>";

fn encoded() -> String {
    MARKUP.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn nothing_a_client_sends_becomes_markup() -> Result<()> {
    let stage = scripted().await?;
    stage.idp.script(|script| {
        script.claims["name"] = MARKUP.into();
        script.claims["groups"] = serde_json::json!([MARKUP]);
        script.claims["picture"] = "javascript:alert(1)".into();
    });
    let client = stage.signed_in().await?;
    let value = encoded();
    for (host, path) in [
        ("app", "/.pomerium/".to_owned()),
        ("app", format!("/.pomerium/{value}")),
        (
            "app",
            format!("/.pomerium/sign_out?pomerium_redirect_uri={value}"),
        ),
        (
            "app",
            format!("/.pomerium/callback/?pomerium_redirect_uri={value}"),
        ),
        (
            "auth",
            format!("/oauth2/callback?error={value}&error_description={value}&state={value}"),
        ),
        ("auth", format!("/oauth2/callback?code={value}&state={value}")),
        (
            "auth",
            format!("/.pomerium/sign_in?pomerium_redirect_uri={value}&pomerium_idp_id={value}"),
        ),
        ("auth", format!("/.pomerium/signed_out?x={value}")),
        ("admin", format!("/{value}")),
        ("nowhere", format!("/{value}")),
    ] {
        let reply = client
            .get_with(&stage.env.url(host, &path), &[("accept", "text/html")])
            .await?;
        let text = reply.text();
        assert!(
            !text.contains("<script>alert") && !text.contains("<img src=x"),
            "{host}{path}:\n{text}"
        );
        assert!(
            !text.contains("=\"javascript:") && !text.contains("=javascript:"),
            "{host}{path}:\n{text}"
        );
        if reply
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
        {
            let policy = reply.header("content-security-policy").unwrap_or_default();
            assert!(policy.contains("default-src 'none'"), "{host}{path}: {policy:?}");
            assert!(!policy.contains("unsafe"), "{host}{path}: {policy}");
            assert!(
                !text.contains(" style=") && !text.contains("<style"),
                "{host}{path}: inline style"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_header_can_be_injected() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    for path in [
        "/%0d%0aevil:%201",
        "/x?y=%0d%0aevil:%201",
        "/.pomerium/sign_out?pomerium_redirect_uri=%0d%0aevil:%201",
    ] {
        let reply = client
            .get_with(&stage.env.url("app", path), &[("accept", "text/html")])
            .await?;
        assert!(reply.header("evil").is_none(), "{path}");
    }
    Ok(())
}
