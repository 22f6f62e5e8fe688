//! The ways of everybody else: states, links and return addresses that were tampered with, replayed or planted.

use http::{Method, StatusCode};
use pomerium_crypto::query::Query;
use pomerium_crypto::signed_url;

use crate::support::{ADMIN, APP, AUTH, BOSS, Browser, Reply, USER, World, parameter, with_parameter};

fn key(world: &World) -> Vec<u8> {
    world.settings.lock().secrets.shared.expose().to_vec()
}

/// Signs in up to the point where the identity provider sends the browser back.
async fn at_callback(browser: &mut Browser<'_>) -> String {
    let page = browser.open(APP).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    reply.location().to_owned()
}

/// A link with a good signature, as only a service of ours can make it.
async fn signed(world: &World, path: &str, pairs: &[(&str, &str)]) -> String {
    use pomerium_api::clock::Clock;
    let query: Query = pairs.iter().copied().collect();
    let url = format!("{AUTH}{path}?{}", query.encode());
    signed_url::sign(&key(world), &url, world.clock.now().as_second()).unwrap()
}

fn is_refused(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.body);
    assert!(reply.header("location").is_none());
    let sets_session = reply.headers.get_all("set-cookie").iter().any(|line| {
        let line = line.to_str().unwrap();
        (line.starts_with("_pomerium=") || line.starts_with("_pomerium_authenticate="))
            && !line.contains("Max-Age=-1")
    });
    assert!(!sets_session, "no session comes of it");
}

#[tokio::test]
async fn a_state_that_was_changed_is_refused() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let callback = at_callback(&mut browser).await;
    let state = parameter(&callback, "state").unwrap();
    for at in [0, state.len() / 2, state.len() - 1] {
        let mut changed = state.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        is_refused(
            &browser
                .get(&with_parameter(&callback, "state", Some(&changed)))
                .await,
        );
    }
    is_refused(&browser.get(&with_parameter(&callback, "state", Some(""))).await);
    is_refused(&browser.get(&with_parameter(&callback, "state", None)).await);
    is_refused(&browser.get(&with_parameter(&callback, "code", None)).await);
    is_refused(&browser.get(&format!("{callback}&state=x")).await);
    is_refused(&browser.get(&format!("{callback}&code=x")).await);
    assert!(world.broker.sessions().is_empty());
    assert_eq!(
        browser.open(&callback).await.body,
        "hello user@example.com",
        "untouched it is good"
    );
}

#[tokio::test]
async fn a_state_is_good_once_in_one_browser_and_not_for_ever() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let callback = at_callback(&mut browser).await;

    let mut other = Browser::new(&world);
    let page = other.get(&callback).await;
    is_refused(&page);
    assert!(
        page.body.contains("cookie"),
        "the page names the cause: {}",
        page.body
    );

    // Another browser with a login of its own: the CSRF cookie is there, and is another one.
    let mut third = Browser::new(&world);
    third.open(APP).await;
    is_refused(&third.get(&callback).await);

    let jar = browser.jar.clone();
    assert_eq!(browser.open(&callback).await.body, "hello user@example.com");
    is_refused(&browser.get(&callback).await);
    let mut copy = Browser::new(&world);
    copy.jar = jar;
    is_refused(&copy.get(&callback).await);
    assert_eq!(world.broker.sessions().len(), 1);

    let mut late = Browser::new(&world);
    let callback = at_callback(&mut late).await;
    world.advance(31 * 60);
    let page = late.get(&callback).await;
    is_refused(&page);
    assert!(page.body.contains("too long"), "{}", page.body);
    assert!(
        page.body.contains(&format!("href=\"{APP}/\"")),
        "and the way back: {}",
        page.body
    );
}

/// The code of the first answer is spent at the provider; a state must not live on with a fresh one.
#[tokio::test]
async fn a_state_is_spent_even_if_the_provider_answers_it_twice() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let callback = at_callback(&mut browser).await;
    let authorize = browser
        .visited
        .iter()
        .find(|url| url.contains("/idp/authorize?"))
        .unwrap()
        .clone();
    let mut copy = Browser::new(&world);
    copy.jar = browser.jar.clone();
    let again = copy.get(&authorize).await.location().to_owned();
    assert_eq!(parameter(&again, "state"), parameter(&callback, "state"));
    assert_ne!(parameter(&again, "code"), parameter(&callback, "code"));
    assert_eq!(browser.open(&callback).await.body, "hello user@example.com");
    is_refused(&copy.get(&again).await);
    is_refused(&browser.get(&again).await);
    assert_eq!(world.broker.sessions().len(), 1);
}

#[tokio::test]
async fn errors_of_the_provider_are_told_and_tamed() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    for (error, status) in [
        ("access_denied", StatusCode::UNAUTHORIZED),
        ("unauthorized_client", StatusCode::UNAUTHORIZED),
        ("server_error", StatusCode::BAD_REQUEST),
        ("<script>alert(1)</script>", StatusCode::BAD_REQUEST),
    ] {
        let url = with_parameter(&format!("{AUTH}/oauth2/callback"), "error", Some(error));
        let reply = browser.get(&url).await;
        assert_eq!(reply.status, status, "{error}");
        assert!(!reply.body.contains("<script>alert"));
    }
}

#[tokio::test]
async fn every_signed_link_wants_its_signature() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let sign_in = browser.get(APP).await.location().to_owned();
    let mut user = Browser::new(&world);
    user.sign_in(APP, USER.0, USER.1).await;
    let callback = user.get(&sign_in).await.location().to_owned();
    assert!(
        callback.starts_with(&format!("{APP}/.pomerium/callback/?")),
        "{callback}"
    );
    for link in [&sign_in, &callback] {
        let signature = parameter(link, "pomerium_signature").unwrap();
        for changed in [
            with_parameter(link, "pomerium_signature", None),
            with_parameter(link, "pomerium_signature", Some("")),
            with_parameter(
                link,
                "pomerium_signature",
                Some(&signature[..signature.len() - 4]),
            ),
            with_parameter(
                link,
                "pomerium_signature",
                Some(&signature.chars().rev().collect::<String>()),
            ),
            with_parameter(link, "pomerium_redirect_uri", Some(&format!("{ADMIN}/"))),
            with_parameter(link, "x", Some("y")),
            with_parameter(link, "pomerium_expiry", Some("99999999999")),
        ] {
            is_refused(&browser.get(&changed).await);
            is_refused(&user.get(&changed).await);
        }
    }
    is_refused(&user.get(&callback.replacen(APP, ADMIN, 1)).await);
    world.advance(5 * 60 + 61);
    for link in [&sign_in, &callback] {
        let page = user.get(link).await;
        is_refused(&page);
        assert!(
            page.body.contains(&format!("href=\"{APP}")),
            "an honest visitor finds the way: {}",
            page.body
        );
    }
}

#[tokio::test]
async fn a_callback_link_is_good_once() {
    let world = World::new();
    let mut user = Browser::new(&world);
    user.sign_in(APP, USER.0, USER.1).await;
    let callback = user
        .visited
        .iter()
        .find(|url| url.contains("/.pomerium/callback/"))
        .unwrap()
        .clone();
    let reload = user.get(&callback).await;
    assert_eq!(reload.status, StatusCode::FOUND, "the same browser may reload");
    assert!(reload.header("set-cookie").is_none());
    let mut thief = Browser::new(&world);
    is_refused(&thief.get(&callback).await);
}

/// What is used at one replica is used at all of them, and a databroker that cannot say so is no reason to believe it.
#[tokio::test]
async fn what_was_used_at_one_replica_is_used_at_the_others() {
    let world = World::new();
    let mut user = Browser::new(&world);
    let state = at_callback(&mut user).await;
    assert_eq!(user.open(&state).await.body, "hello user@example.com");
    let used = user.get(&state).await;
    is_refused(&used);
    let link = user
        .visited
        .iter()
        .find(|url| url.contains("/.pomerium/callback/"))
        .unwrap()
        .clone();
    world.another_replica();
    is_refused(&Browser::new(&world).get(&link).await);
    let there = user.get(&state).await;
    is_refused(&there);
    assert_eq!(there.body.contains("link"), used.body.contains("link"));
    assert_eq!(world.broker.sessions().len(), 1);

    world.another_replica();
    world.broker.set_down(true);
    let reply = Browser::new(&world).get(&link).await;
    assert!(reply.status.is_server_error(), "{}", reply.status);
    assert!(reply.header("location").is_none());
}

/// The last letter of a signature has two bits that stand for nothing.
#[tokio::test]
async fn a_used_link_does_not_come_back_under_another_spelling() {
    let world = World::new();
    let mut user = Browser::new(&world);
    user.sign_in(APP, USER.0, USER.1).await;
    let callback = user
        .visited
        .iter()
        .find(|url| url.contains("/.pomerium/callback/"))
        .unwrap()
        .clone();
    let signature = parameter(&callback, "pomerium_signature").unwrap();
    let letter = signature.as_bytes()[42];
    for bit in 1..=3 {
        let respelled = format!("{}{}=", &signature[..42], char::from(letter + bit));
        let link = with_parameter(&callback, "pomerium_signature", Some(&respelled));
        is_refused(&Browser::new(&world).get(&link).await);
    }
    let turned: Vec<&str> = callback.split_once('?').unwrap().1.split('&').rev().collect();
    let turned = format!("{APP}/.pomerium/callback/?{}", turned.join("&"));
    is_refused(&Browser::new(&world).get(&turned).await);
}

#[tokio::test]
async fn a_session_cannot_be_planted_on_another_host() {
    let world = World::new();
    let mut user = Browser::new(&world);
    user.sign_in(APP, USER.0, USER.1).await;
    let callback = user
        .visited
        .iter()
        .find(|url| url.contains("/.pomerium/callback/"))
        .unwrap()
        .clone();
    let sealed = parameter(&callback, "pomerium_session_encrypted").unwrap();
    let query: Query = [
        ("pomerium_session_encrypted", sealed.as_str()),
        ("pomerium_redirect_uri", "https://admin.example.com/"),
        ("pomerium_additional_hosts", ""),
    ]
    .into_iter()
    .collect();
    use pomerium_api::clock::Clock;
    let url = format!("{ADMIN}/.pomerium/callback/?{}", query.encode());
    let url = signed_url::sign(&key(&world), &url, world.clock.now().as_second()).unwrap();
    let page = user.get(&url).await;
    is_refused(&page);
    assert!(page.body.contains("another host"));
}

/// A signed link leads home as well: what is signed came from a request once.
#[tokio::test]
async fn return_addresses_lead_to_hosts_of_ours_in_every_disguise() {
    let world = World::new();
    let mut user = Browser::new(&world);
    user.sign_in(APP, USER.0, USER.1).await;
    for foreign in [
        "https://evil.example/",
        "https://app.example.com.evil.example/",
        "https://evil-app.example.com/",
        "https://app.example.com@evil.example/",
        "https://app.example.com:pw@evil.example/",
        "https://evil.example#@app.example.com/",
        "https://evil.example\\@app.example.com/",
        "https://evil.example?@app.example.com/",
        "https://app.example.com\\.evil.example/",
        "https://app.example.com%2eevil.example/",
        "https://app.example.com%00.evil.example/",
        "https://app.example.com:8443/",
        "https:///evil.example/",
        "https:/evil.example/",
        "https:evil.example",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/%09/evil.example",
        " https://app.example.com/",
        "https://app.example.com/\r\nSet-Cookie: a=b",
        "http://app.example.com/",
        "javascript:alert(1)//app.example.com/",
        "data:text/html,x",
        "ftp://app.example.com/",
        "https://аpp.example.com/",
        "",
    ] {
        let link = signed(
            &world,
            "/.pomerium/sign_in",
            &[("pomerium_redirect_uri", foreign)],
        )
        .await;
        is_refused(&user.get(&link).await);
        for callback in [
            foreign,
            "https://app.example.com/evil",
            "https://evil.example/.pomerium/callback/",
        ] {
            let pairs = [
                ("pomerium_redirect_uri", "https://app.example.com/"),
                ("pomerium_callback_uri", callback),
            ];
            is_refused(
                &user
                    .get(&signed(&world, "/.pomerium/sign_in", &pairs).await)
                    .await,
            );
        }
        let hosts = [
            ("pomerium_redirect_uri", "https://app.example.com/"),
            ("pomerium_additional_hosts", "evil.example"),
        ];
        is_refused(
            &user
                .get(&signed(&world, "/.pomerium/sign_in", &hosts).await)
                .await,
        );
        let programmatic = [
            ("pomerium_redirect_uri", foreign),
            (
                "pomerium_callback_uri",
                "https://app.example.com/.pomerium/callback/",
            ),
            ("pomerium_programmatic", "true"),
        ];
        is_refused(
            &user
                .get(&signed(&world, "/.pomerium/sign_in", &programmatic).await)
                .await,
        );
    }
}

#[tokio::test]
async fn a_cookie_planted_before_the_login_is_worth_nothing_after_it() {
    let world = World::new();
    let mut thief = Browser::new(&world);
    thief.sign_in(APP, BOSS.0, BOSS.1).await;
    let planted = thief
        .cookie("_pomerium_authenticate", "authenticate.example.com")
        .unwrap()
        .clone();
    let old = world.broker.sessions()[0].id.clone();

    let mut victim = Browser::new(&world);
    let callback = at_callback(&mut victim).await;
    victim.jar.push(planted);
    assert_eq!(victim.open(&callback).await.body, "hello user@example.com");
    let sessions = world.broker.sessions();
    assert_eq!(sessions.len(), 1);
    assert_ne!(sessions[0].id, old, "a new id");
    assert!(world.broker.is_tombstone(&old), "the old one is dead");
}

#[tokio::test]
async fn the_router_serves_nothing_that_is_not_on_the_map() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    for path in [
        "/debug/pprof/",
        "/metrics",
        "/config_dump",
        "/.pomerium/admin",
        "/.pomerium/verify-access-token",
        "/.pomerium/session_binding_info",
        "/.pomerium/webauthn",
        "/.pomerium/mcp/authorize",
        "/.pomerium/sign_in/",
        "/.pomerium/idpx/authorize",
        "/.pomerium/idp/unknown",
        "/oauth2/callback/",
        "/.pomerium/assets/../secret",
    ] {
        let reply = browser.get(&format!("{AUTH}{path}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in [
        "/.pomerium/idp/token",
        "/.pomerium/api/",
        "/.pomerium/sign_in",
        "/.pomerium/jwt",
        "/.pomerium/mcp/",
    ] {
        let reply = browser.get(&format!("{APP}{path}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
    }
    let user_code = browser
        .get(&format!("{AUTH}/.pomerium/sign_in?user_code=abc"))
        .await;
    assert_eq!(user_code.status, StatusCode::NOT_FOUND);
    let big = format!("a={}", "x".repeat(70_000));
    let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
    let reply = world
        .send(
            Method::POST,
            &format!("{AUTH}/.pomerium/idp/token"),
            &headers,
            big.clone(),
        )
        .await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let program = [headers[0].clone(), ("accept", "application/json".to_owned())];
    let url = format!("{AUTH}/.pomerium/idp/token");
    let reply = world.send(Method::POST, &url, &program, big).await;
    assert_eq!(reply.json()["Status"], 413, "a program reads JSON");
}

#[tokio::test]
async fn without_a_session_store_nobody_is_let_in_and_nobody_is_sent_round() {
    let world = World::new();
    let mut user = Browser::new(&world);
    user.sign_in(APP, USER.0, USER.1).await;
    let sign_in = user
        .visited
        .iter()
        .find(|url| url.contains("/.pomerium/sign_in?"))
        .unwrap()
        .clone();
    world.broker.set_down(true);
    let reply = user.get(&sign_in).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.header("location").is_none());
}
