//! Return addresses (oauth2-proxy CVE-2021-21291; Pomerium CVE-2021-29651): never to a foreign host, in
//! no disguise, and never with a token.

use anyhow::Result;
use pomerium_tests::scripted;

const FOREIGN: &[&str] = &[
    "https://evil.example.org/",
    "https://app.example.com.evil.example.org/",
    "https://evil-app.example.com@evil.example.org/",
    "https://app.example.com@evil.example.org/",
    "https://evil.example.org\\@app.example.com/",
    "https://evil.example.org#@app.example.com/",
    "https://evil.example.org?@app.example.com/",
    "//evil.example.org/",
    "\\\\evil.example.org/",
    "/\\evil.example.org/",
    "/\t/evil.example.org/",
    "https:evil.example.org",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://127.0.0.1.evil.example.org/",
    "http://localhost.evil.example.org/",
    "http://localhost@evil.example.org/",
    "ftp://localhost/",
];

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn programmatic_login_gives_no_address_to_strangers() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    for target in FOREIGN {
        let path = format!("/.pomerium/api/v1/login?pomerium_redirect_uri={}", encode(target));
        let reply = client.get(&stage.env.url("app", &path)).await?;
        assert!(
            reply.status.is_client_error(),
            "{target:?}: {} {}",
            reply.status,
            reply.text()
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_page_sends_people_to_strangers() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    for target in FOREIGN {
        for path in [
            "/.pomerium/sign_out",
            "/.pomerium/sign_in",
            "/.pomerium/",
            "/.pomerium/callback/",
            "/.pomerium/signed_out",
        ] {
            for host in ["app", "auth"] {
                let path = format!("{path}?pomerium_redirect_uri={}", encode(target));
                let reply = client
                    .get_with(&stage.env.url(host, &path), &[("accept", "text/html")])
                    .await?;
                if let Some(location) = reply.location() {
                    let there = location.host_str().unwrap_or_default();
                    let ours = there.ends_with(".example.com") || there == "127.0.0.1";
                    assert!(
                        ours && !there.contains("evil"),
                        "{host}{path}: sent to {location}"
                    );
                }
            }
        }
    }
    Ok(())
}
