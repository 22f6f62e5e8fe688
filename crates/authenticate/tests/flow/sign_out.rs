//! Signing out: what ends, where, and who may set it off.

use http::{Method, StatusCode};

use crate::support::{ADMIN, APP, AUTH, BOSS, Browser, USER, World, parameter};

#[tokio::test]
async fn signing_out_ends_the_session_on_every_host_at_once() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, BOSS.0, BOSS.1).await;
    browser.open(ADMIN).await;
    let id = world.broker.sessions()[0].id.clone();
    let copy = browser.jar.clone();

    browser.extra = vec![("sec-fetch-site", "same-origin".into())];
    let page = browser.open(&format!("{APP}/.pomerium/sign_out")).await;
    assert_eq!(page.url, format!("{AUTH}/.pomerium/signed_out"));
    assert!(world.broker.is_tombstone(&id) && world.broker.sessions().is_empty());
    let left: Vec<_> = browser.jar.iter().map(|cookie| cookie.name.as_str()).collect();
    assert!(
        !left.contains(&"_pomerium_authenticate") && !left.contains(&"_pomerium_idp"),
        "{left:?}"
    );

    let mut thief = Browser::new(&world);
    thief.jar = copy;
    for url in [APP, ADMIN] {
        let page = thief.open(url).await;
        assert!(
            page.body.contains("type=\"password\""),
            "copied cookies are dead: {} {}",
            page.status,
            page.body
        );
    }
}

#[tokio::test]
async fn another_site_cannot_sign_anybody_out() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    let url = format!("{APP}/.pomerium/sign_out");

    for site in ["same-site", "cross-site"] {
        let page = browser.fetch(Method::GET, &url, site, None).await;
        assert_eq!(page.status, StatusCode::OK, "a question");
    }
    let page = browser.fetch(Method::GET, &url, "cross-site", None).await;
    assert_eq!(
        browser.fetch(Method::POST, &url, "cross-site", None).await.status,
        StatusCode::BAD_REQUEST
    );
    let unsigned = format!("{AUTH}/.pomerium/sign_out");
    assert_eq!(
        browser
            .fetch(Method::GET, &unsigned, "cross-site", None)
            .await
            .status,
        StatusCode::OK,
        "a question"
    );
    assert_eq!(
        browser
            .fetch(Method::POST, &unsigned, "cross-site", None)
            .await
            .status,
        StatusCode::BAD_REQUEST
    );

    // A signed link that somebody else made with a session of theirs.
    let mut other = Browser::new(&world);
    other.sign_in(APP, BOSS.0, BOSS.1).await;
    let planted = other.get(&url).await.location().to_owned();
    assert_eq!(
        browser
            .fetch(Method::GET, &planted, "cross-site", None)
            .await
            .status,
        StatusCode::OK,
        "a question"
    );
    assert_eq!(world.broker.sessions().len(), 2, "nobody was signed out");

    let reply = browser.submit(&page, &[]).await;
    browser.follow(reply).await;
    assert_eq!(world.broker.sessions().len(), 1, "a click does it");
}

#[tokio::test]
async fn the_question_of_the_authenticate_host_leads_to_the_end() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    let page = browser
        .get(&format!(
            "{AUTH}/.pomerium/sign_out?pomerium_redirect_uri=https://evil.example/"
        ))
        .await;
    let reply = browser.submit(&page, &[]).await;
    let last = browser.follow(reply).await;
    assert_eq!(
        last.url,
        format!("{AUTH}/.pomerium/signed_out"),
        "an unsigned way on is not taken"
    );
    assert!(world.broker.sessions().is_empty());
    assert!(
        browser
            .visited
            .iter()
            .all(|url| !url.starts_with("https://evil.example"))
    );
}

#[tokio::test]
async fn where_to_after_that_is_for_the_administrator_to_say() {
    for (more, asked, expected) in [
        ("", "", "https://authenticate.example.com/.pomerium/signed_out"),
        (
            "",
            "?pomerium_redirect_uri=https://evil.example/",
            "https://authenticate.example.com/.pomerium/signed_out",
        ),
        (
            "signout_redirect_url: https://www.example.com/bye\n",
            "",
            "https://www.example.com/bye",
        ),
        (
            "runtime_flags: {allow_any_sign_out_redirect_uri: true}\n",
            "?pomerium_redirect_uri=https://anywhere.example/",
            "https://anywhere.example/",
        ),
    ] {
        let world = World::with(more);
        let mut browser = Browser::new(&world);
        browser.sign_in(APP, USER.0, USER.1).await;
        let mut reply = browser.get(&format!("{APP}/.pomerium/sign_out{asked}")).await;
        while reply.location().contains("/.pomerium/sign_out") || reply.location().contains("/end_session") {
            let next = reply.location().to_owned();
            reply = browser.get(&next).await;
        }
        assert_eq!(reply.location(), expected, "{more} {asked}");
    }
}

#[tokio::test]
async fn after_signing_out_a_sign_in_asks_for_the_password_and_is_no_loop() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    for _ in 0..4 {
        let reply = browser.sign_in(APP, USER.0, USER.1).await;
        assert_eq!(reply.body, "hello user@example.com");
        browser.open(&format!("{APP}/.pomerium/sign_out")).await;
        browser.jar.retain(|cookie| cookie.name != "_pomerium");
    }
}

#[tokio::test]
async fn a_sign_out_that_cannot_be_written_is_not_claimed() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    let link = browser
        .get(&format!("{APP}/.pomerium/sign_out"))
        .await
        .location()
        .to_owned();
    assert!(parameter(&link, "pomerium_signature").is_some());
    world.broker.set_down(true);
    assert_eq!(browser.get(&link).await.status, StatusCode::SERVICE_UNAVAILABLE);
    world.broker.set_down(false);
    browser.open(&link).await;
    assert!(world.broker.sessions().is_empty());
}
