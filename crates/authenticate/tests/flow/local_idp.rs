//! The built-in identity provider seen from outside: as a browser, and as a client over HTTP.

use http::{Method, StatusCode};
use pomerium_crypto::query::Query;
use pomerium_crypto::{encoding, jwt};

use crate::support::{APP, AUTH, BOSS, Browser, Reply, USER, World, parameter, with_parameter};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CALLBACK: &str = "https://authenticate.example.com/oauth2/callback";

fn authorize() -> String {
    let query: Query = [
        ("client_id", "pomerium"),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("state", "the state"),
        ("nonce", "the nonce"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
    .into_iter()
    .collect();
    format!("{AUTH}/.pomerium/idp/authorize?{}", query.encode())
}

fn secret(world: &World) -> String {
    let settings = world.settings.lock();
    String::from_utf8(
        settings
            .authenticate
            .idp
            .as_ref()
            .unwrap()
            .client_secret
            .expose()
            .to_vec(),
    )
    .unwrap()
}

/// Signs in by hand and takes the code.
async fn code(browser: &mut Browser<'_>) -> String {
    let page = browser.get(&authorize()).await;
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.body);
    assert_eq!(parameter(reply.location(), "state").as_deref(), Some("the state"));
    assert_eq!(
        parameter(reply.location(), "iss").as_deref(),
        Some("https://authenticate.example.com/.pomerium/idp")
    );
    parameter(reply.location(), "code").unwrap()
}

async fn token(world: &World, code: &str, change: &[(&str, &str)], secret: &str) -> Reply {
    let mut form: Query = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ]
    .into_iter()
    .collect();
    for (name, value) in change {
        form.set(name, value);
    }
    let basic = encoding::base64_encode(format!("pomerium:{secret}").as_bytes());
    let headers = [
        ("authorization", format!("Basic {basic}")),
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
    ];
    world
        .send(
            Method::POST,
            &format!("{AUTH}/.pomerium/idp/token"),
            &headers,
            form.encode(),
        )
        .await
}

async fn userinfo(world: &World, token: &str) -> Reply {
    let headers = [("authorization", format!("Bearer {token}"))];
    world
        .send(
            Method::GET,
            &format!("{AUTH}/.pomerium/idp/userinfo"),
            &headers,
            String::new(),
        )
        .await
}

#[tokio::test]
async fn a_client_of_the_protocol_learns_who_signed_in() {
    let world = World::new();
    let discovery = format!("{AUTH}/.pomerium/idp/.well-known/openid-configuration");
    let document = world
        .send(Method::GET, &discovery, &[], String::new())
        .await
        .json();
    assert_eq!(
        document["issuer"],
        "https://authenticate.example.com/.pomerium/idp"
    );
    assert_eq!(
        document["code_challenge_methods_supported"],
        serde_json::json!(["S256"])
    );
    let keys = world
        .send(
            Method::GET,
            document["jwks_uri"].as_str().unwrap(),
            &[],
            String::new(),
        )
        .await
        .body;

    let mut browser = Browser::new(&world);
    let reply = token(&world, &code(&mut browser).await, &[], &secret(&world)).await;
    assert_eq!(
        (reply.status, reply.header("cache-control")),
        (StatusCode::OK, Some("no-store"))
    );
    let tokens = reply.json();
    let set = jwt::JwkSet::parse(keys.as_bytes()).unwrap();
    let expect = jwt::Expect {
        issuer: Some("https://authenticate.example.com/.pomerium/idp"),
        audience: Some("pomerium"),
        algorithms: &[jwt::Algorithm::Es256],
        now: pomerium_api::clock::Clock::now(&world.clock).as_second(),
        leeway: 0,
    };
    let claims: serde_json::Value = set.verify(tokens["id_token"].as_str().unwrap(), &expect).unwrap();
    for (name, value) in [
        ("email", serde_json::json!("user@example.com")),
        ("email_verified", true.into()),
        ("name", "A User".into()),
        ("groups", serde_json::json!(["staff"])),
        ("nonce", "the nonce".into()),
        ("amr", serde_json::json!(["pwd"])),
        ("auth_time", expect.now.into()),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    let info = userinfo(&world, tokens["access_token"].as_str().unwrap())
        .await
        .json();
    assert_eq!(
        (&info["sub"], &info["groups"]),
        (&claims["sub"], &serde_json::json!(["staff"]))
    );
}

#[tokio::test]
async fn a_code_is_good_once_and_its_replay_ends_what_it_gave() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let code = code(&mut browser).await;
    let first = token(&world, &code, &[], &secret(&world)).await.json();
    let access = first["access_token"].as_str().unwrap();
    assert_eq!(userinfo(&world, access).await.status, StatusCode::OK);
    let replay = token(&world, &code, &[], &secret(&world)).await;
    assert_eq!(
        (replay.status, replay.json()["error"].as_str()),
        (StatusCode::BAD_REQUEST, Some("invalid_grant"))
    );
    assert_eq!(userinfo(&world, access).await.status, StatusCode::UNAUTHORIZED);
}

/// A code that one replica gave is good at every other one, and once for all of them.
#[tokio::test]
async fn codes_work_at_every_replica_and_once_for_all() {
    let world = World::new();
    let secret = secret(&world);
    let mut browser = Browser::new(&world);
    let code = code(&mut browser).await;
    world.another_replica();
    let first = token(&world, &code, &[], &secret).await.json();
    let access = first["access_token"].as_str().unwrap().to_owned();
    world.another_replica();
    assert_eq!(userinfo(&world, &access).await.status, StatusCode::OK);
    let replay = token(&world, &code, &[], &secret).await;
    assert_eq!(replay.json()["error"], "invalid_grant");
    world.another_replica();
    assert_eq!(
        userinfo(&world, &access).await.status,
        StatusCode::UNAUTHORIZED,
        "the replay ends what the first use gave, at all of them"
    );

    // Whoever cannot ask gives nothing, and does not say that the token is bad.
    let mut browser = Browser::new(&world);
    let late = self::code(&mut browser).await;
    let good = token(&world, &self::code(&mut Browser::new(&world)).await, &[], &secret).await;
    let access = good.json()["access_token"].as_str().unwrap().to_owned();
    world.broker.set_down(true);
    let reply = token(&world, &late, &[], &secret).await;
    assert_eq!(
        (reply.status, reply.json()["error"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("temporarily_unavailable"))
    );
    assert_eq!(
        userinfo(&world, &access).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn a_code_that_is_cut_or_changed_is_none() {
    let world = World::new();
    let secret = secret(&world);
    let code = code(&mut Browser::new(&world)).await;
    let cut = &code[..code.len() - 1];
    let changed = format!("{}{}", if code.starts_with('A') { 'B' } else { 'A' }, &code[1..]);
    for bad in ["", cut, &changed, &"A".repeat(20_000)] {
        let reply = token(&world, bad, &[], &secret).await;
        assert_eq!(reply.json()["error"], "invalid_grant", "{bad}");
    }
    assert_eq!(token(&world, &code, &[], &secret).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_token_endpoint_takes_nothing_that_does_not_fit() {
    let world = World::new();
    let secret = secret(&world);
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 8] = [
        (
            "wrong redirect_uri",
            &[(
                "redirect_uri",
                "https://authenticate.example.com/oauth2/callback/",
            )],
            &secret,
            "invalid_grant",
        ),
        (
            "no redirect_uri",
            &[("redirect_uri", "")],
            &secret,
            "invalid_grant",
        ),
        (
            "wrong verifier",
            &[("code_verifier", CHALLENGE)],
            &secret,
            "invalid_grant",
        ),
        ("no verifier", &[("code_verifier", "")], &secret, "invalid_grant"),
        (
            "wrong grant",
            &[("grant_type", "password")],
            &secret,
            "unsupported_grant_type",
        ),
        ("wrong secret", &[], "x", "invalid_client"),
        ("cut secret", &[], &secret[..secret.len() - 1], "invalid_client"),
        (
            "two credentials",
            &[("client_secret", &secret)],
            &secret,
            "invalid_client",
        ),
    ];
    for (name, change, secret, error) in cases {
        let mut browser = Browser::new(&world);
        let reply = token(&world, &code(&mut browser).await, change, secret).await;
        assert_eq!(reply.json()["error"], error, "{name}");
    }
    let mut browser = Browser::new(&world);
    let late = code(&mut browser).await;
    world.advance(60);
    assert_eq!(
        token(&world, &late, &[], &secret).await.json()["error"],
        "invalid_grant",
        "a minute is over"
    );
    for bearer in ["", "x", "eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(userinfo(&world, bearer).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_that_is_not_registered() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    for uri in [
        "https://evil.example/",
        "https://authenticate.example.com/oauth2/callback/../x",
        "https://authenticate.example.com/",
        "",
    ] {
        let reply = browser
            .get(&with_parameter(&authorize(), "redirect_uri", Some(uri)))
            .await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (StatusCode::BAD_REQUEST, None),
            "{uri}"
        );
    }
    let reply = browser
        .get(&with_parameter(&authorize(), "client_id", Some("other")))
        .await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (StatusCode::BAD_REQUEST, None)
    );
    let reply = browser
        .get(&with_parameter(&authorize(), "code_challenge", None))
        .await;
    assert_eq!(
        parameter(reply.location(), "error").as_deref(),
        Some("invalid_request"),
        "PKCE is required"
    );
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_look_the_same() {
    let world = World::new();
    let mut pages = Vec::new();
    for (user, password) in [
        (USER.0, "wrong"),
        ("nobody@example.com", "wrong"),
        ("nobody@example.com", USER.1),
        (USER.0, ""),
    ] {
        let mut browser = Browser::new(&world);
        let page = browser.get(&authorize()).await;
        let reply = browser
            .submit(&page, &[("username", user), ("password", password)])
            .await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert!(
            !reply.body.contains("value=\"wrong\""),
            "the password does not come back"
        );
        assert!(
            browser
                .cookie("_pomerium_idp", "authenticate.example.com")
                .is_none()
        );
        let (_, fields) = reply.form();
        let mut text = reply.body.replace(user, "");
        for (_, value) in fields.iter().filter(|(_, value)| value.len() > 20) {
            text = text.replace(value, "");
        }
        pages.push(text);
    }
    pages.dedup();
    assert_eq!(pages.len(), 1, "{pages:#?}");
}

#[tokio::test]
async fn passwords_cannot_be_tried_without_end() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let page = browser.get(&authorize()).await;
    for _ in 0..10 {
        let reply = browser
            .submit(&page, &[("username", USER.0), ("password", "wrong")])
            .await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    for name in [USER.0, "USER@example.com", " user@example.com"] {
        let reply = browser
            .submit(&page, &[("username", name), ("password", USER.1)])
            .await;
        assert_eq!(
            reply.status,
            StatusCode::TOO_MANY_REQUESTS,
            "not even the right one, in whatever spelling"
        );
        assert_eq!(reply.header("retry-after"), Some("15"));
    }
    world.reload("");
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    assert_eq!(
        reply.status,
        StatusCode::TOO_MANY_REQUESTS,
        "a reload gives no new tries"
    );
    world.advance(16);
    let reply = browser
        .submit(&page, &[("username", USER.0), ("password", USER.1)])
        .await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_form_belongs_to_this_browser_this_site_and_this_half_hour() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let page = browser.get(&authorize()).await;
    let (action, form) = page.form();
    let action = format!("{AUTH}{action}");
    let mut full = form.clone();
    full.set("username", USER.0).set("password", USER.1);

    let reply = browser
        .fetch(Method::POST, &action, "cross-site", Some(&full))
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "from another site");
    let mut stranger = Browser::new(&world);
    let reply = stranger
        .fetch(Method::POST, &action, "same-origin", Some(&full))
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "another browser");
    for (name, value) in [
        ("csrf", ""),
        ("csrf", "1.x"),
        ("request", ""),
        ("request", "AAAA"),
    ] {
        let mut changed = full.clone();
        changed.set(name, value);
        let reply = browser
            .fetch(Method::POST, &action, "same-origin", Some(&changed))
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name}={value}");
    }
    assert_eq!(browser.get(&action).await.status, StatusCode::METHOD_NOT_ALLOWED);
    world.advance(31 * 60);
    let reply = browser
        .fetch(Method::POST, &action, "same-origin", Some(&full))
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "too late");
}

#[tokio::test]
async fn what_a_stranger_writes_into_the_request_is_not_shown_as_an_application() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    for name in ["pomerium_application", "login_hint"] {
        let url = with_parameter(&authorize(), name, Some("<b>Your bank</b>"));
        let page = browser.get(&url).await;
        assert!(!page.body.contains("<b>Your bank"), "{}", page.body);
        assert!(name != "pomerium_application" || !page.body.contains("Your bank"));
    }
}

#[tokio::test]
async fn one_sign_in_serves_until_the_client_wants_a_fresh_one() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let none = with_parameter(&authorize(), "prompt", Some("none"));
    assert_eq!(
        parameter(browser.get(&none).await.location(), "error").as_deref(),
        Some("login_required")
    );
    code(&mut browser).await;
    assert!(
        parameter(browser.get(&authorize()).await.location(), "code").is_some(),
        "no password again"
    );
    assert!(parameter(browser.get(&none).await.location(), "code").is_some());
    let login = with_parameter(&authorize(), "prompt", Some("login"));
    assert_eq!(browser.get(&login).await.status, StatusCode::OK, "a form");
    world.advance(100);
    let fresh = with_parameter(&authorize(), "max_age", Some("60"));
    assert_eq!(browser.get(&fresh).await.status, StatusCode::OK, "a form");
    let old = with_parameter(&authorize(), "max_age", Some("600"));
    assert!(parameter(browser.get(&old).await.location(), "code").is_some());
}

#[tokio::test]
async fn a_new_sign_in_has_a_new_cookie_and_kills_the_old_one() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    code(&mut browser).await;
    let old = browser.jar.clone();
    let page = browser
        .get(&with_parameter(&authorize(), "prompt", Some("login")))
        .await;
    let reply = browser
        .submit(&page, &[("username", BOSS.0), ("password", BOSS.1)])
        .await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    let mut copy = Browser::new(&world);
    copy.jar = old;
    assert_eq!(
        copy.get(&authorize()).await.status,
        StatusCode::OK,
        "the copied cookie asks for a password"
    );
}

#[tokio::test]
async fn signing_out_at_the_provider_needs_a_proof_or_a_click() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let id_token = token(&world, &code(&mut browser).await, &[], &secret(&world))
        .await
        .json()["id_token"]
        .clone();
    let end = format!("{AUTH}/.pomerium/idp/end_session");

    let page = browser.get(&end).await;
    assert_eq!(page.status, StatusCode::OK, "asked, not signed out");
    assert!(
        browser
            .cookie("_pomerium_idp", "authenticate.example.com")
            .is_some()
    );
    let forged = with_parameter(&end, "id_token_hint", Some("eyJhbGciOiJub25lIn0.e30."));
    assert_eq!(browser.get(&forged).await.status, StatusCode::OK);
    let reply = browser.submit(&page, &[]).await;
    assert_eq!(reply.location(), format!("{AUTH}/.pomerium/signed_out"));
    assert!(
        browser
            .cookie("_pomerium_idp", "authenticate.example.com")
            .is_none()
    );

    code(&mut browser).await;
    let copy = browser.jar.clone();
    world.advance(24 * 3600 - 1);
    code(&mut browser).await;
    let hinted = with_parameter(&end, "id_token_hint", id_token.as_str());
    let evil = with_parameter(&hinted, "post_logout_redirect_uri", Some("https://evil.example/"));
    assert_eq!(
        browser.get(&evil).await.location(),
        format!("{AUTH}/.pomerium/signed_out"),
        "an old hint will do"
    );
    let home = with_parameter(&hinted, "post_logout_redirect_uri", Some(&format!("{APP}/bye")));
    assert_eq!(browser.get(&home).await.location(), format!("{APP}/bye"));
    let mut thief = Browser::new(&world);
    thief.jar = copy;
    assert_eq!(
        thief.get(&authorize()).await.status,
        StatusCode::OK,
        "copies of the cookie are dead"
    );
}

#[tokio::test]
async fn a_removed_user_and_a_changed_password_end_what_was_given_out() {
    let hash =
        "$argon2id$v=19$m=8,t=1,p=1$LmhYTyY+XqO/U6lYhxU/BA$AzhbSxj9GT+4iYZlV3H1aQOq8llWtfA/AxpXIfVpouM";
    let other =
        "$argon2id$v=19$m=8,t=1,p=1$O+M/NbWv3lC7NajUEW5T8w$Gjv402ES4oouygyXyfBr6yRHqW8p4tjaWwMs4fDQD6Y";
    for (from, to) in [
        ("email: user@example.com", "email: gone@example.com"),
        (hash, other),
    ] {
        let world = World::new();
        let mut browser = Browser::new(&world);
        let tokens = token(&world, &code(&mut browser).await, &[], &secret(&world))
            .await
            .json();
        let access = tokens["access_token"].as_str().unwrap();
        let waiting = parameter(browser.get(&authorize()).await.location(), "code").unwrap();
        assert_eq!(userinfo(&world, access).await.status, StatusCode::OK);
        world.reload_changed(from, to);
        assert_eq!(
            userinfo(&world, access).await.status,
            StatusCode::UNAUTHORIZED,
            "{to}"
        );
        assert_eq!(
            browser.get(&authorize()).await.status,
            StatusCode::OK,
            "asks for the password: {to}"
        );
        let reply = token(&world, &waiting, &[], &secret(&world)).await;
        assert_eq!(reply.json()["error"], "invalid_grant", "{to}");
    }
}

/// Whoever asks the provider about the session later has to know that a "no" is not just the end of a token.
#[tokio::test]
async fn the_token_of_a_session_lives_as_long_as_the_session() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    let session = world.broker.sessions().remove(0);
    let token = session.oauth_token.unwrap();
    let (ends, token_ends) = (session.expires_at.unwrap(), token.expires_at.unwrap());
    assert!(token_ends.seconds >= ends.seconds, "{token_ends} {ends}");

    let provider = |world: &World| world.service.lock().provider(&session.idp_id).unwrap();
    let userinfo = async |world: &World| {
        let provider = provider(world);
        provider.userinfo(&token.access_token, &session.user_id).await
    };
    assert!(userinfo(&world).await.unwrap().is_some());
    world.reload_changed("email: user@example.com", "email: gone@example.com");
    let refused = userinfo(&world).await.err().expect("the user is gone");
    assert!(!refused.is_temporary(), "{refused}");
}
