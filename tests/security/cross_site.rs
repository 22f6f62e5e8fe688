//! Requests that another site makes the browser send (caddy CVE-2026-27589): they change nothing.

use anyhow::Result;
use http::Method;
use pomerium_tests::scripted;

#[tokio::test]
async fn another_site_cannot_sign_anyone_out() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let foreign: &[&[(&str, &str)]] = &[
        &[
            ("origin", "https://evil.example.org"),
            ("sec-fetch-site", "cross-site"),
        ],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-site")],
    ];
    for headers in foreign {
        for host in ["app", "auth"] {
            let url = stage.env.url(host, "/.pomerium/sign_out");
            client.send(Method::POST, &url, headers, "").await?;
        }
        assert_eq!(stage.api(&client, "app", "/").await?.status, 200, "{headers:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_image_on_another_site_cannot_sign_anyone_out() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let headers = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-dest", "image"),
        ("referer", "https://evil.example.org/"),
    ];
    let mut url = stage.env.url("app", "/.pomerium/sign_out");
    for _ in 0..5 {
        let reply = client.get_with(&url, &headers).await?;
        let Some(next) = reply.location() else { break };
        url = next.to_string();
    }
    assert_eq!(
        stage.api(&client, "app", "/").await?.status,
        200,
        "still signed in"
    );
    Ok(())
}

#[tokio::test]
async fn our_own_answers_give_no_other_site_access() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let headers = [
        ("origin", "https://evil.example.org"),
        ("accept", "application/json"),
    ];
    for path in [
        "/.pomerium/",
        "/.pomerium/user",
        "/.pomerium/api/v1/routes",
        "/.pomerium/sign_out",
    ] {
        let reply = client.get_with(&stage.env.url("app", path), &headers).await?;
        let allowed = reply.header("access-control-allow-origin");
        assert!(allowed.is_none(), "{path}: {allowed:?}");
    }
    Ok(())
}

#[tokio::test]
async fn cookies_carry_their_guards() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let mut url = stage.env.url("app", "/");
    let mut seen = 0;
    for _ in 0..10 {
        let reply = client.get_with(&url, &[("accept", "text/html")]).await?;
        for cookie in reply.headers.get_all("set-cookie") {
            let cookie = cookie.to_str()?.to_ascii_lowercase();
            assert!(cookie.contains("; secure"), "{cookie}");
            assert!(cookie.contains("; httponly"), "{cookie}");
            assert!(!cookie.contains("domain="), "{cookie}");
            seen += 1;
        }
        match reply.location() {
            Some(next) => next.as_str().clone_into(&mut url),
            None => break,
        }
    }
    assert!(seen >= 2, "the way in sets cookies");
    Ok(())
}
