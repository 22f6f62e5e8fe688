//! Clients that are not a person in front of a page.

use anyhow::{Context, Result};
use http::Method;
use pomerium_tests::scripted;

#[tokio::test]
async fn programs_get_401_with_a_body_and_never_a_redirect() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let url = stage.env.url("app", "/data");
    for headers in [
        &[("accept", "application/json")][..],
        &[("accept", "*/*"), ("x-requested-with", "XMLHttpRequest")],
        &[
            ("accept", "*/*"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
        ],
    ] {
        let reply = client.get_with(&url, headers).await?;
        assert_eq!(reply.status, 401, "{headers:?}");
        assert_eq!(reply.header("location"), None, "{headers:?}");
        let body = reply.json()?;
        assert_eq!(body["error"], "Unauthenticated", "{headers:?}");
        assert!(body["request_id"].is_string(), "{body}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    let reply = client
        .send(
            Method::POST,
            &url,
            &[("content-type", "application/grpc"), ("te", "trailers")],
            "",
        )
        .await?;
    assert_eq!(reply.header("grpc-status"), Some("16"), "{:?}", reply.headers);
    assert!(stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_page_that_is_not_signed_in_is_redirected_and_not_cached() -> Result<()> {
    let stage = scripted().await?;
    let reply = stage
        .env
        .client()?
        .get_with(&stage.env.url("app", "/x"), &[("accept", "text/html")])
        .await?;
    assert_eq!(reply.status, 302);
    let location = reply.location().context("no location")?;
    assert!(
        location
            .as_str()
            .starts_with(&stage.env.url("auth", "/.pomerium/sign_in?")),
        "{location}"
    );
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    Ok(())
}

#[tokio::test]
async fn programmatic_login_gives_a_token_to_an_allowed_address_and_the_token_works() -> Result<()> {
    let stage = scripted().await?;
    let browser = stage.env.client()?;
    let ask = stage.env.url(
        "app",
        "/.pomerium/api/v1/login?pomerium_redirect_uri=http%3A%2F%2Flocalhost%3A9%2Fback",
    );
    let reply = browser.get(&ask).await?;
    assert_eq!(reply.status, 200);
    // The program's own listener is the last hop; nobody plays it here, the address is what counts.
    let error = format!(
        "{:#}",
        browser
            .follow(&reply.text())
            .await
            .expect_err("nobody listens on port 9")
    );
    let token = error
        .split("pomerium_jwt=")
        .nth(1)
        .and_then(|rest| rest.split(['&', ' ', ':', '"']).next())
        .with_context(|| error.clone())?
        .to_owned();
    assert!(error.contains("http://localhost:9/back"), "{error}");

    let program = stage.env.client()?;
    for header in [
        ("authorization", format!("Pomerium {token}")),
        ("authorization", format!("Bearer Pomerium-{token}")),
        ("x-pomerium-authorization", token.clone()),
    ] {
        let headers = [("accept", "application/json"), (header.0, header.1.as_str())];
        assert_eq!(
            program
                .get_with(&stage.env.url("app", "/"), &headers)
                .await?
                .status,
            200,
            "{header:?}"
        );
    }
    let request = stage
        .upstream
        .requests()
        .pop()
        .context("the application was asked")?;
    assert_eq!(
        request.header("x-pomerium-claim-email"),
        Some("developer@example.com")
    );
    assert_eq!(request.header("x-pomerium-authorization"), None);
    Ok(())
}
