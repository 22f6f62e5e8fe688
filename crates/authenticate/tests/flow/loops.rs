//! Loops end at a page that names the cause.

use http::StatusCode;
use pomerium_api::databroker::Databroker;

use crate::support::{APP, Browser, OTHER, USER, World};

#[tokio::test]
async fn a_browser_that_refuses_the_cookie_of_the_application() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.refuses = Some("_pomerium");
    let page = browser.open(APP).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    let last = browser.follow(reply).await;
    assert_eq!(last.status, StatusCode::BAD_REQUEST);
    assert!(
        last.body.contains("app.example.com") && last.body.contains("did not keep the cookie"),
        "{}",
        last.body
    );
    let rounds = browser
        .visited
        .iter()
        .filter(|url| url.contains("/.pomerium/callback/"))
        .count();
    assert_eq!(rounds, 2, "two rounds, not more");

    world.advance(61);
    browser.refuses = None;
    assert_eq!(
        browser.open(APP).await.body,
        "hello user@example.com",
        "the way is free again"
    );
}

#[tokio::test]
async fn a_browser_that_refuses_the_cookie_of_the_authenticate_host() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.refuses = Some("_authenticate");
    let page = browser.open(APP).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    let last = browser.follow(reply).await;
    assert_eq!(last.status, StatusCode::BAD_REQUEST);
    assert!(last.body.contains("authenticate.example.com"), "{}", last.body);
    assert!(browser.visited.len() < 20);
}

#[tokio::test]
async fn a_browser_without_any_cookies() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.refuses = Some("");
    let page = browser.open(APP).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    let last = browser.follow(reply).await;
    assert_eq!(last.status, StatusCode::BAD_REQUEST);
    assert!(last.body.contains("cookie"), "{}", last.body);
}

#[tokio::test]
async fn a_cookie_domain_that_does_not_cover_the_host() {
    let world = World::with("cookie_domain: example.com\n");
    let mut browser = Browser::new(&world);
    let page = browser.open(&format!("{OTHER}/x")).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    let last = browser.follow(reply).await;
    assert_eq!(last.status, StatusCode::BAD_REQUEST);
    assert!(
        last.body.contains("cookie_domain") && last.body.contains("other.example.org"),
        "{}",
        last.body
    );
}

#[tokio::test]
async fn a_store_that_loses_sessions() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let page = browser.open(APP).await;
    let mut reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    for _ in 0..20 {
        world.broker.clear().await.unwrap();
        let Some(next) = reply.next() else { break };
        reply = browser.get(&next).await;
    }
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(reply.body.contains("session store"), "{}", reply.body);
}

#[tokio::test]
async fn a_refusal_is_no_loop_and_many_tabs_are_none() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    for tab in 0..10 {
        browser.jar.retain(|cookie| cookie.name != "_pomerium");
        assert_eq!(
            browser.open(&format!("{APP}/tab/{tab}")).await.body,
            "hello user@example.com"
        );
    }
}

#[tokio::test]
async fn sessions_that_are_over_as_soon_as_they_begin() {
    let world = World::with("cookie_expire: 1s\n");
    let mut browser = Browser::new(&world);
    let page = browser.open(APP).await;
    let mut reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    for _ in 0..20 {
        let Some(next) = reply.next() else { break };
        world.advance(2);
        reply = browser.get(&next).await;
    }
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(reply.body.contains("clock"), "{}", reply.body);
}
