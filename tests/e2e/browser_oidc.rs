//! A person in Chromium, signing in at a certified provider.

use anyhow::Result;
use pomerium_testing::{Browser, Look};
use pomerium_tests::{admin, developer, oidc};

use crate::browser_local::{judge_page, look_at};

#[tokio::test]
async fn a_person_signs_in_sees_the_application_and_signs_out() -> Result<()> {
    let stage = oidc().await?;
    let browser = Browser::start().await?;
    let page = browser.open(Look::DESKTOP).await?;

    page.goto(&stage.env.url("app", "/hello?who=me")).await?;
    assert!(
        page.url().await?.starts_with(stage.idp.issuer()),
        "{}",
        page.url().await?
    );
    let reached = page.sign_in("developer", developer().password()).await?;
    assert_eq!(
        reached,
        stage.env.url("app", "/hello?who=me"),
        "back where the person wanted to go"
    );
    let seen = stage.upstream.requests();
    let request = seen
        .iter()
        .find(|request| request.target == "/hello?who=me")
        .expect("the application was asked");
    assert_eq!(
        request.header("x-pomerium-claim-email"),
        Some("developer@example.com")
    );
    assert!(request.header("x-pomerium-jwt-assertion").is_some());

    page.goto(&stage.env.url("app", "/.pomerium/")).await?;
    let text = page.text("main").await?;
    for expected in ["developer@example.com", "Developer Example", "staff"] {
        assert!(
            text.contains(expected),
            "{expected:?} is not on the page:\n{text}"
        );
    }
    judge_page(&page, "who-am-i").await?;

    page.goto(&stage.env.url("app", "/.pomerium/sign_out")).await?;
    while page.count("button[type=submit]").await? > 0 {
        page.follow("button[type=submit]").await?;
    }
    assert!(
        page.text("h1").await?.contains("signed out"),
        "{}",
        page.text("main").await?
    );
    judge_page(&page, "signed-out").await?;

    page.goto(&stage.env.url("app", "/")).await?;
    assert!(
        page.url().await?.starts_with(stage.idp.issuer()),
        "signed out here and at the provider"
    );
    Ok(())
}

#[tokio::test]
async fn someone_who_may_not_is_told_why_without_a_redirect() -> Result<()> {
    let stage = oidc().await?;
    let browser = Browser::start().await?;
    let page = browser.open(Look::DESKTOP).await?;
    page.goto(&stage.env.url("admin", "/")).await?;
    let reached = page.sign_in("developer", developer().password()).await?;
    assert_eq!(reached, stage.env.url("admin", "/"));
    assert_eq!(page.goto(&stage.env.url("admin", "/secret")).await?.0, 403);
    let text = page.text("main").await?;
    assert!(
        text.contains("developer@example.com"),
        "the page says who is signed in:\n{text}"
    );
    assert!(!page.text("h1").await?.contains("403"));
    judge_page(&page, "denied").await?;
    assert!(
        stage.upstream.requests().is_empty(),
        "nothing reached the application"
    );
    let line = stage
        .env
        .log()
        .wait_json(0, "the denial in the log", |line| {
            line["message"] == "authorize check" && line["path"] == "/secret"
        })
        .await?;
    assert!(line.to_string().contains("claim-unauthorized"), "{line}");

    let other = browser.open(Look::PHONE).await?;
    other.goto(&stage.env.url("admin", "/")).await?;
    assert_eq!(
        other.sign_in("admin", admin().password()).await?,
        stage.env.url("admin", "/")
    );
    // The browser may ask for an icon as well.
    assert!(
        stage
            .upstream
            .requests()
            .iter()
            .any(|request| request.target == "/")
    );
    Ok(())
}

#[tokio::test]
async fn a_websocket_works_from_a_page() -> Result<()> {
    let stage = oidc().await?;
    let browser = Browser::start().await?;
    let page = browser.open(Look::DESKTOP).await?;
    page.goto(&stage.env.url("ws", "/")).await?;
    page.sign_in("developer", developer().password()).await?;
    let script = "new Promise((done, fail) => {
        const socket = new WebSocket(`wss://${location.host}/ws`);
        socket.onopen = () => socket.send('ping over the proxy');
        socket.onmessage = (event) => done(event.data);
        socket.onerror = () => fail(new Error('the socket failed'));
    })";
    assert_eq!(page.evaluate(script).await?, "ping over the proxy");
    Ok(())
}

#[tokio::test]
async fn pages_for_what_is_missing_are_fit_to_be_seen() -> Result<()> {
    let stage = oidc().await?;
    let browser = Browser::start().await?;
    look_at(&browser, &stage.env.url("nowhere", "/"), "not-found").await?;
    look_at(&browser, &stage.env.url("open", "/.pomerium/"), "not-signed-in").await
}
