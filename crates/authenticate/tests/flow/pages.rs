//! What our pages and JSON endpoints tell, and what none of them may.

use http::{Method, StatusCode};
use pomerium_api::databroker::Databroker;
use pomerium_api::records::{DIRECTORY_GROUP, DIRECTORY_USER, struct_record};
use serde_json::json;

use crate::support::{ADMIN, APP, AUTH, BOSS, Browser, OTHER, USER, World};

#[tokio::test]
async fn who_am_i_on_both_hosts() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let nobody = browser.open(&format!("{APP}/.pomerium/")).await;
    assert_eq!(nobody.status, StatusCode::OK, "no sign-in is forced");
    assert!(nobody.body.contains("not signed in"), "{}", nobody.body);

    browser.sign_in(APP, USER.0, USER.1).await;
    for url in [
        format!("{APP}/.pomerium/"),
        format!("{APP}/.pomerium"),
        format!("{AUTH}/.pomerium/"),
        format!("{AUTH}/"),
    ] {
        let page = browser.open(&url).await;
        assert_eq!(page.status, StatusCode::OK, "{url}");
        for text in [
            "user@example.com",
            "A User",
            "staff",
            "claim groups",
            "192.0.2.7",
            "2026-03-01 12:00 UTC",
            "Local account",
        ] {
            assert!(page.body.contains(text), "{url} lacks {text}: {}", page.body);
        }
    }
    let mut stranger = Browser::new(&world);
    let page = stranger
        .sign_in(&format!("{AUTH}/.pomerium/"), BOSS.0, BOSS.1)
        .await;
    assert!(
        page.body.contains("admin@example.com"),
        "the authenticate host signs in first"
    );
}

#[tokio::test]
async fn the_directory_says_which_groups_somebody_is_in() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, USER.0, USER.1).await;
    let id = world.broker.sessions().remove(0).user_id;
    let known = json!({"group_ids": ["g1", "g2"], "email": "directory@example.com"});
    let group = json!({"name": "Group of the directory"});
    let records = vec![
        struct_record(DIRECTORY_USER, &id, &known),
        struct_record(DIRECTORY_GROUP, "g1", &group),
    ];
    world.broker.put(records).await.unwrap();
    for url in [format!("{APP}/.pomerium/"), format!("{AUTH}/.pomerium/")] {
        let page = browser.open(&url).await.body;
        for text in [
            "Group of the directory",
            "g1",
            "g2",
            ">directory<",
            "directory@example.com",
        ] {
            assert!(page.contains(text), "{url} lacks {text}: {page}");
        }
        assert!(!page.contains("claim groups"), "{url}: {page}");
    }
    let claims = browser.get(&format!("{APP}/.pomerium/user")).await.json();
    assert_eq!(
        claims["group_sources"],
        json!([
            {"id": "g1", "name": "Group of the directory", "source": "directory"},
            {"id": "g2", "name": "g2", "source": "directory"},
        ])
    );
}

#[tokio::test]
async fn the_claims_of_the_assertion_as_json() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let user = format!("{APP}/.pomerium/user");
    assert_eq!(
        browser.get(&user).await.status,
        StatusCode::FOUND,
        "signs in first"
    );
    browser.sign_in(APP, USER.0, USER.1).await;
    let claims = browser.get(&user).await.json();
    let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["email", "group_sources", "name", "sub"]);
    assert_eq!(claims["email"], "user@example.com");
    assert_eq!(
        browser.get(&format!("{APP}/.pomerium/jwt")).await.status,
        StatusCode::NOT_FOUND
    );
    world.reload("runtime_flags: {pomerium_jwt_endpoint: true}\n");
    let token = browser.get(&format!("{APP}/.pomerium/jwt")).await;
    assert_eq!(
        (token.content_type(), token.body.split('.').count()),
        ("application/jwt", 3)
    );
}

#[tokio::test]
async fn the_portal_shows_what_a_person_may_open_and_nothing_else() {
    let world = World::new();
    for (who, shown, hidden) in [
        (USER, vec!["Sample application"], vec!["admin.example.com"]),
        (BOSS, vec!["Sample application", "admin.example.com"], vec![]),
    ] {
        let mut browser = Browser::new(&world);
        browser.sign_in(APP, who.0, who.1).await;
        let page = browser.get(&format!("{APP}/.pomerium/routes")).await;
        let json = browser.get(&format!("{APP}/.pomerium/api/v1/routes")).await;
        for text in shown {
            assert!(
                page.body.contains(text) && json.body.contains(text),
                "{} {text}",
                who.0
            );
        }
        for text in hidden.iter().copied().chain(["other.example.org"]) {
            assert!(
                !page.body.contains(text) && !json.body.contains(text),
                "{} {text}",
                who.0
            );
        }
        let first = &json.json()["routes"][0];
        assert_eq!((&first["type"], &first["from"]), (&"http".into(), &APP.into()));
    }
    let mut nobody = Browser::new(&world);
    assert_eq!(
        nobody.get(&format!("{APP}/.pomerium/routes")).await.status,
        StatusCode::FOUND
    );
    world.reload("runtime_flags: {routes_portal: false}\n");
    assert_eq!(
        nobody.get(&format!("{APP}/.pomerium/routes")).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn keys_and_documents_for_upstreams() {
    let world = World::new();
    let document = world
        .send(
            Method::GET,
            &format!("{APP}/.well-known/pomerium"),
            &[],
            String::new(),
        )
        .await;
    assert_eq!(document.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        document.json(),
        serde_json::json!({
            "issuer": "https://app.example.com/",
            "authentication_callback_endpoint": "https://authenticate.example.com/oauth2/callback",
            "jwks_uri": "https://app.example.com/.well-known/pomerium/jwks.json",
            "frontchannel_logout_uri": "https://app.example.com/.pomerium/sign_out",
        })
    );
    let url = format!("{APP}/.well-known/pomerium/jwks.json");
    let keys = world.send(Method::GET, &url, &[], String::new()).await;
    assert_eq!(keys.json()["keys"][0]["alg"], "ES256");
    assert!(keys.json()["keys"][0].get("d").is_none(), "public half only");
    let tag = keys.header("etag").unwrap().to_owned();
    let again = world
        .send(Method::GET, &url, &[("if-none-match", tag)], String::new())
        .await;
    assert_eq!(
        (again.status, again.body.as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );
    for (path, body) in [
        ("/ping", "OK\n"),
        ("/healthz", "OK\n"),
        ("/robots.txt", "User-agent: *\nDisallow: /"),
    ] {
        let reply = world
            .send(Method::GET, &format!("{AUTH}{path}"), &[], String::new())
            .await;
        assert_eq!(reply.body, body);
        let reply = world
            .send(Method::POST, &format!("{AUTH}{path}"), &[], String::new())
            .await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    }
}

#[tokio::test]
async fn errors_as_json_for_whoever_asks_for_it() {
    let world = World::new();
    let headers = [("accept", "application/json".to_owned())];
    let reply = world
        .send(
            Method::GET,
            &format!("{AUTH}/.pomerium/nothing"),
            &headers,
            String::new(),
        )
        .await;
    assert_eq!(
        (reply.status, reply.json()["Status"].as_u64()),
        (StatusCode::NOT_FOUND, Some(404))
    );
    assert_eq!(reply.header("x-pomerium-intercepted-response"), Some("true"));
    let style = world
        .send(
            Method::GET,
            &format!("{AUTH}/.pomerium/nothing"),
            &[],
            String::new(),
        )
        .await;
    let start = style.body.find("/.pomerium/assets/").expect("a stylesheet");
    let path: String = style.body[start..].chars().take_while(|c| *c != '"').collect();
    for host in [AUTH, APP] {
        let asset = world
            .send(Method::GET, &format!("{host}{path}"), &[], String::new())
            .await;
        assert_eq!(asset.status, StatusCode::OK, "{path}");
    }
}

/// CVE-2024-39315: no reply of ours holds a token of the identity provider.
#[tokio::test]
async fn no_reply_holds_a_token_of_the_provider() {
    let world = World::with("runtime_flags: {pomerium_jwt_endpoint: true}\n");
    let mut browser = Browser::new(&world);
    browser.sign_in(APP, BOSS.0, BOSS.1).await;
    let session = world.broker.sessions().remove(0);
    let oauth = session.oauth_token.unwrap();
    let secrets = [
        session.id_token.unwrap().raw,
        oauth.access_token,
        oauth.refresh_token,
    ];
    assert!(secrets[0].len() > 100 && secrets[1].len() > 50);
    let mut bodies = Vec::new();
    for host in [AUTH, APP, ADMIN, OTHER] {
        for path in [
            "/",
            "/.pomerium/",
            "/.pomerium/user",
            "/.pomerium/jwt",
            "/.pomerium/routes",
            "/.pomerium/api/v1/routes",
            "/.pomerium/api/v1/login?pomerium_redirect_uri=http://localhost/",
            "/.well-known/pomerium",
            "/.well-known/pomerium/jwks.json",
            "/.pomerium/sign_in",
            "/.pomerium/sign_out",
            "/.pomerium/signed_out",
            "/.pomerium/callback/",
            "/.pomerium/idp/.well-known/openid-configuration",
            "/.pomerium/idp/jwks.json",
            "/.pomerium/idp/userinfo",
            "/.pomerium/idp/token",
            "/.pomerium/idp/authorize",
            "/ping",
            "/nothing",
        ] {
            for accept in ["text/html", "application/json"] {
                browser.extra = vec![("accept", accept.to_owned())];
                bodies.push((
                    format!("{host}{path}"),
                    browser.get(&format!("{host}{path}")).await.body,
                ));
            }
        }
    }
    bodies.extend(world.json_replies.lock().iter().cloned());
    assert!(bodies.len() > 150);
    for (url, body) in bodies {
        let text = body.replace("\\u002b", "+");
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            assert!(!text.contains(secret.as_str()), "{url} gives a token away");
        }
        for name in [
            "\"access_token\"",
            "\"refresh_token\"",
            "\"id_token\"",
            "\"client_secret\"",
        ] {
            let told = text.contains(name) && !url.contains("openid-configuration");
            assert!(!told, "{url} speaks of {name}");
        }
    }
}
