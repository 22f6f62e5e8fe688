//! The support supports: each part is tried out against another one, without the product.

use anyhow::{Context, Result};
use http::Method;
use pomerium_testing::{
    Account, Authority, Browser, Client, ClientOptions, Look, OidcProvider, RawClient, RawUpstream,
    ScriptedIdp, Step, Upstream,
};
use serde_json::json;

#[tokio::test]
async fn an_upstream_says_what_it_received_over_tls_and_http2() -> Result<()> {
    let authority = Authority::new()?;
    let upstream = Upstream::start_tls(&authority, &["app.example.com"], true).await?;
    let client = Client::new(&ClientOptions {
        authority_pem: Some(authority.pem().into()),
        ..Default::default()
    })?;
    let url = format!("https://app.example.com:{}/a?b=c", upstream.address().port());
    let reply = client
        .send(Method::POST, &url, &[("x-test", "1")], "hello")
        .await?
        .json()?;
    assert_eq!(reply["version"], "HTTP/2.0");
    assert_eq!(reply["target"], "/a?b=c");
    assert_eq!(reply["body"], "hello");
    assert_eq!(upstream.requests()[0].header("x-test"), Some("1"));
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_the_body_until_the_test_lets_go() -> Result<()> {
    let upstream = Upstream::start().await?;
    let gate = upstream.gate("slow");
    let mut client = RawClient::connect(upstream.address(), None).await?;
    client.send("GET /gated/slow HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    upstream.wait_for(1).await?;
    gate.send("one,").await?;
    gate.send("two").await?;
    drop(gate);
    assert_eq!(client.reply(false).await?.text(), "one,two");
    Ok(())
}

#[tokio::test]
async fn a_raw_upstream_lies_about_the_length_as_told() -> Result<()> {
    let lie = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(lie), Step::Close]).await?;
    let client = Client::new(&ClientOptions::default())?;
    let error = client.get(&upstream.url()).await.unwrap_err();
    assert!(format!("{error:#}").contains("broke off"), "{error:#}");
    assert!(upstream.received()[0].starts_with(b"GET / HTTP/1.1\r\n"));
    Ok(())
}

fn authorize(issuer: &str, path: &str) -> String {
    format!(
        "{issuer}{path}?client_id={}&response_type=code&scope=openid%20email%20groups&state=s&nonce=n\
         &redirect_uri=https%3A%2F%2Fauth.example.com%2Foauth2%2Fcallback\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
        OidcProvider::CLIENT_ID
    )
}

#[tokio::test]
async fn the_certified_provider_signs_people_in_with_a_form_or_without() -> Result<()> {
    let accounts = [Account::new("developer", "correct horse").groups(&["admins"])];
    let redirect = "https://auth.example.com/oauth2/callback";
    let mut provider = OidcProvider::start(&[redirect.to_owned()], &accounts).await?;
    let client = Client::new(&ClientOptions::default())?;

    let page = client.follow(&authorize(provider.issuer(), "/auth")).await?;
    let wrong = client.sign_in(&page, "developer", "wrong").await?;
    assert!(
        wrong.text().contains("Wrong user or password"),
        "{}",
        wrong.text()
    );
    // The last hop leads out of the provider, where nobody listens.
    let error = client
        .sign_in(&wrong, "developer", "correct horse")
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("https://auth.example.com/oauth2/callback?code="),
        "{error:#}"
    );

    client.forget();
    provider.sign_in_as(Some("developer")).await?;
    let error = client
        .follow(&authorize(provider.issuer(), "/auth"))
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("/oauth2/callback?code="),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test]
async fn the_scripted_provider_signs_what_it_is_told() -> Result<()> {
    let provider = ScriptedIdp::start().await?;
    let client = Client::new(&ClientOptions::default())?;
    let reply = client.get(&authorize(&provider.issuer(), "/authorize")).await?;
    assert!(
        reply
            .header("location")
            .is_some_and(|url| url.contains("?code=the-code&state=s"))
    );
    let token = format!("{}/token", provider.issuer());
    let algorithm = async || -> Result<String> {
        let reply = client
            .send(Method::POST, &token, &[], "code=the-code")
            .await?
            .json()?;
        let token = reply["id_token"].as_str().context("no token")?.to_owned();
        Ok(token.split('.').next().unwrap_or_default().to_owned())
    };
    let correct = algorithm().await?;
    provider.script(|script| script.algorithm = "none");
    let unsigned = algorithm().await?;
    assert_ne!(correct, unsigned);
    assert_eq!(provider.seen(), ["/authorize", "/token", "/token"]);
    Ok(())
}

#[tokio::test]
async fn the_browser_shows_pages_and_axe_finds_faults() -> Result<()> {
    let upstream = Upstream::start().await?;
    let good = "<!doctype html><html lang=en><title>T</title><main><h1>Good</h1></main></html>";
    upstream.reply_with(
        200,
        &[
            ("content-type", "text/html"),
            ("content-security-policy", "default-src 'none'"),
        ],
        good,
    );
    let browser = Browser::start().await?;
    let page = browser.open(Look::PHONE).await?;
    let url = format!("http://app.example.com:{}/", upstream.address().port());
    assert_eq!(page.goto(&url).await?.0, 200);
    assert_eq!(page.text("h1").await?, "Good");
    assert_eq!(page.axe().await?, Vec::<String>::new());
    assert_eq!(page.overflow().await?, 0);
    assert_eq!(page.evaluate("innerWidth").await?, json!(390));

    let bad =
        "<!doctype html><html><title>T</title><img src=x><p style='width:2000px;color:#eee'>pale</p></html>";
    upstream.reply_with(200, &[("content-type", "text/html")], bad);
    page.goto(&url).await?;
    let found = page.axe().await?.join("\n");
    for fault in ["image-alt", "html-has-lang", "color-contrast"] {
        assert!(found.contains(fault), "{fault} not in:\n{found}");
    }
    assert!(page.overflow().await? > 1000);
    page.close().await
}
