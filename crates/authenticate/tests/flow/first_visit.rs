//! The way of honest people and honest programs.

use http::{Method, StatusCode};
use pomerium_api::pb::user::User;
use pomerium_api::records::to_record;
use pomerium_web::handle::Handle;

use crate::support::{
    ADMIN, APP, AUTH, BOSS, Browser, OTHER, USER, World, parameter, session_of, with_parameter,
};

#[tokio::test]
async fn a_person_signs_in_and_comes_back_to_where_they_were() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let page = browser.open(&format!("{APP}/some/path?x=1&y=%20")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.body.contains("Sample application") && page.body.contains("app.example.com"),
        "{}",
        page.body
    );
    let reply = browser
        .submit(&page, &[("username", "User@Example.com"), ("password", USER.1)])
        .await;
    let reply = browser.follow(reply).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::OK, "hello user@example.com")
    );
    assert_eq!(
        browser.visited.last().unwrap(),
        &format!("{APP}/some/path?x=1&y=%20")
    );

    let sessions = world.broker.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].client_address, "192.0.2.7");
    let route = browser.cookie("_pomerium", "app.example.com").unwrap();
    assert!(session_of(&sessions, &world, &route.value).is_some());
    assert!(
        browser
            .cookie("_pomerium_login", "authenticate.example.com")
            .is_none(),
        "no login is left over"
    );
}

#[tokio::test]
async fn the_second_application_asks_for_no_password() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, BOSS.0, BOSS.1).await;
    let reply = browser.open(ADMIN).await;
    assert_eq!(reply.body, "hello admin@example.com");
    assert_eq!(world.broker.sessions().len(), 1, "one session for both");
}

#[tokio::test]
async fn a_slow_person_is_not_sent_away() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let page = browser.open(APP).await;
    world.advance(20 * 60);
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    assert_eq!(
        browser.follow(reply).await.body,
        "hello user@example.com",
        "longer than a signed link lives"
    );
}

/// Dashboards keep their whole state in the query.
#[tokio::test]
async fn a_long_address_does_not_keep_anybody_out() {
    for (path, comes_back_to) in [
        (format!("/page?q={}", "a%20".repeat(800)), None),
        (format!("/page?q={}", "a".repeat(60_000)), Some("/page")),
        (format!("/{}", "a".repeat(60_000)), Some("/")),
    ] {
        let world = World::new();
        let mut browser = Browser::new(&world);
        let reply = browser.sign_in(&format!("{APP}{path}"), USER.0, USER.1).await;
        let expected = format!("{APP}{}", comes_back_to.unwrap_or(&path));
        assert_eq!(reply.body, "hello user@example.com", "{}", path.len());
        assert_eq!(reply.url, expected);
    }
}

#[tokio::test]
async fn sign_in_survives_a_reload_of_the_settings_in_between() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let page = browser.open(APP).await;
    world.reload("cookie_expire: 1h\n");
    let to_callback = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    world.reload("");
    assert_eq!(
        browser.follow(to_callback).await.body,
        "hello user@example.com",
        "codes outlive a reload"
    );
}

#[tokio::test]
async fn a_chain_of_hosts_gets_the_session_in_one_go() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let reply = browser.sign_in(&format!("{OTHER}/x"), USER.0, USER.1).await;
    assert_eq!(reply.body, "hello user@example.com");
    for host in ["other.example.org", "app.example.com", "admin.example.com"] {
        let cookie = browser
            .cookie("_pomerium", host)
            .unwrap_or_else(|| panic!("no session on {host}"));
        let handle = Handle::decode(world.settings.lock().secrets.shared.expose(), &cookie.value).unwrap();
        assert!(
            handle.aud.iter().any(|aud| aud == host),
            "{host} is in the audience"
        );
    }
}

#[tokio::test]
async fn a_strict_cookie_arrives_because_the_last_step_is_our_own_page() {
    let world = World::with("cookie_same_site: strict\n");
    let mut browser = Browser::new(&world);
    let page = browser.open(APP).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    let callback = browser.get(reply.location()).await;
    assert_eq!(callback.status, StatusCode::OK, "a page, no redirect");
    assert_eq!(browser.follow(callback).await.body, "hello user@example.com");
}

#[tokio::test]
async fn scripts_and_programs_get_401_and_the_address_to_sign_in() {
    let world = World::new();
    let sign_in = world
        .send(Method::GET, APP, &[], String::new())
        .await
        .location()
        .to_owned();
    let cases: [(&str, Vec<(&str, String)>); 3] = [
        ("fetch", vec![("sec-fetch-mode", "cors".into())]),
        ("xhr", vec![("x-requested-with", "XMLHttpRequest".into())]),
        ("api", vec![("accept", "application/json".into())]),
    ];
    for (name, headers) in cases {
        let on_route = format!("{APP}/.pomerium/user");
        for url in [on_route.as_str(), &sign_in, &format!("{AUTH}/.pomerium/")] {
            let reply = world.send(Method::GET, url, &headers, String::new()).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name} {url}");
            let login = reply.json()["login_url"].as_str().unwrap_or_default().to_owned();
            assert!(login.starts_with("https://"), "{name} {url}: {}", reply.body);
            assert!(reply.header("location").is_none() && reply.header("set-cookie").is_none());
        }
    }
}

#[tokio::test]
async fn a_program_signs_its_person_in() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let api = format!("{APP}/.pomerium/api/v1/login");
    let ask = with_parameter(
        &api,
        "pomerium_redirect_uri",
        Some("http://localhost:9999/cb?a=b"),
    );
    let reply = browser.get(&ask).await;
    assert_eq!(
        (reply.status, reply.content_type()),
        (StatusCode::OK, "text/plain; charset=utf-8")
    );
    let page = browser.open(&reply.body).await;
    let mut reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    while !reply.location().starts_with("http://localhost") {
        let next = reply.location().to_owned();
        reply = browser.get(&next).await;
    }
    let token = parameter(reply.location(), "pomerium_jwt").unwrap();
    assert_eq!(parameter(reply.location(), "a").as_deref(), Some("b"));
    for (name, value) in [
        ("x-pomerium-authorization", token.clone()),
        ("authorization", format!("Pomerium {token}")),
        ("authorization", format!("Bearer Pomerium-{token}")),
    ] {
        let reply = world
            .send(Method::GET, APP, &[(name, value)], String::new())
            .await;
        assert_eq!(reply.body, "hello user@example.com", "{name}");
    }

    for foreign in [
        "https://evil.example/",
        "http://localhost.evil.example/",
        "javascript:alert(1)",
        "http://localhost@evil.example/",
        "//localhost/",
        "http://localhost\\@evil.example/",
    ] {
        let reply = browser
            .get(&with_parameter(&api, "pomerium_redirect_uri", Some(foreign)))
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{foreign}");
    }
    assert_eq!(browser.get(&api).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        browser
            .fetch(Method::POST, &ask, "same-origin", None)
            .await
            .status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn many_people_at_once_are_never_mixed_up() {
    let world = World::new();
    let one = async |who: (&'static str, &'static str)| {
        let mut browser = Browser::new(&world);
        let reply = browser.sign_in(APP, who.0, who.1).await;
        assert_eq!(reply.body, format!("hello {}", who.0));
    };
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(one(USER));
        all.push(one(BOSS));
    }
    futures_util::future::join_all(all).await;
    assert_eq!(world.broker.sessions().len(), 8);
}

#[tokio::test]
async fn several_tabs_can_sign_in_at_once() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let first = browser.open(&format!("{APP}/one")).await;
    let second = browser.open(&format!("{APP}/two")).await;
    for (page, path) in [(second, "/two"), (first, "/one")] {
        let reply = browser
            .submit(&page, &[("username", USER.0), ("password", USER.1)])
            .await;
        browser.follow(reply).await;
        assert_eq!(browser.visited.last().unwrap(), &format!("{APP}{path}"));
    }
    assert_eq!(
        world.broker.sessions().len(),
        1,
        "the later session took the place of the earlier one"
    );
}

/// What is written into the record of a user while they sign in stays: a device they register at this very moment.
#[tokio::test]
async fn a_login_takes_nothing_away_that_was_written_meanwhile() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    let id = world.broker.sessions()[0].user_id.clone();
    let mut user: User = world.broker.read(&id);
    user.device_credential_ids = vec!["new-device".into()];
    user.claims.clear();
    world.broker.interfere(to_record(&user));
    let mut elsewhere = Browser::new(&world);
    elsewhere.sign_in(APP, USER.0, USER.1).await;
    let after: User = world.broker.read(&id);
    assert_eq!(after.device_credential_ids, ["new-device"]);
    assert_eq!(after.email, "user@example.com");
    assert!(!after.claims.is_empty(), "and the login counts, too");
}
