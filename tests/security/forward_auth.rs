//! Forward-auth (oauth2-proxy CVE-2026-40575, CVE-2025-64484; traefik CVE-2026-35051, CVE-2026-33433; caddy
//! CVE-2026-30851, CVE-2026-52845): headers about a request are believed from trusted peers, whole, once, and only where
//! nothing contradicts them.

use std::net::IpAddr;

use anyhow::Result;
use pomerium_testing::RawClient;
use pomerium_tests::decision::DecisionStage;

const FORWARD: &str = "/forward-auth";
const NGINX: &str = "/auth-request";

fn forwarded<'a>(host: &'a str, uri: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Uri", uri),
        ("X-Forwarded-For", "192.0.2.7"),
    ]
}

#[tokio::test]
async fn who_is_not_trusted_is_cut_off_unheard() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let source: IpAddr = "127.0.0.2".parse()?;
    let mut client = RawClient::connect(stage.address(), Some(source)).await?;
    // The connection is closed before anything is read: the question may not even be sent whole.
    let head = format!(
        "GET {FORWARD} HTTP/1.1\r\nHost: x\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: {}\r\nX-Forwarded-Uri: /\r\n\r\n",
        stage.host("open")
    );
    let _ = client.send(head).await;
    let answer = client.read_to_close().await.unwrap_or_default();
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    let judged = stage.stage.env.log().json();
    assert!(
        !judged
            .iter()
            .any(|line| line["message"] == "authorize check" && line["ip"] == "127.0.0.2")
    );
    Ok(())
}

#[tokio::test]
async fn a_trusted_peer_is_answered_for_strangers_and_for_people() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let host = stage.host("app");
    let mut question = forwarded(&host, "/inside?a=b");
    let reply = stage.ask(FORWARD, &question).await?;
    assert_eq!(reply.status, 302, "{reply:?}");
    let location = reply.header("location").unwrap_or_default();
    assert!(location.contains("/.pomerium/sign_in?"), "{location}");
    assert!(location.contains("inside%3Fa%3Db"), "{location}");

    let both = format!("a=1; {}", stage.cookie);
    question.push(("Cookie", &both));
    let reply = stage.ask(FORWARD, &question).await?;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.header("x-pomerium-claim-email"),
        Some("developer@example.com")
    );
    assert_eq!(reply.header("cookie"), Some("a=1"));
    assert_eq!(reply.header("authorization"), Some(""));
    assert_eq!(reply.header("x-pomerium-jwt-assertion-for"), Some(""));

    let other = stage.host("admin");
    let reply = stage
        .ask(
            FORWARD,
            &[forwarded(&other, "/"), vec![("Cookie", &stage.cookie)]].concat(),
        )
        .await?;
    assert_eq!(reply.status, 403, "{reply:?}");
    let reply = stage.ask(FORWARD, &forwarded("nowhere.example.com", "/")).await?;
    assert_eq!(reply.status, 404, "{reply:?}");
    Ok(())
}

/// A 2xx means yes. Clients get a 200 in some refusals, and proxies must not.
#[tokio::test]
async fn no_refusal_looks_like_a_yes() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let app = stage.host("app");
    for (host, uri, header) in [
        (&*app, "/robots.txt", ("Accept", "*/*")),
        (&*app, "/", ("Content-Type", "application/grpc")),
        ("nowhere.example.com", "/", ("Content-Type", "application/grpc")),
        (&*app, "/", ("User-Agent", "kubectl/v1 kubernetes/1")),
        (&*app, "/ping", ("Accept", "*/*")),
        (&*app, "/.pomerium/", ("Accept", "*/*")),
        (&*app, "/.well-known/pomerium", ("Accept", "*/*")),
        (&*app, "/.pomerium/callback/?x=y", ("Accept", "*/*")),
    ] {
        let question = [forwarded(host, uri), vec![header]].concat();
        let reply = stage.ask(FORWARD, &question).await?;
        assert!(reply.status >= 300, "{uri} {header:?}: {reply:?}");
        let url = format!("https://{host}{uri}");
        let question = [("X-Original-Method", "GET"), ("X-Original-URL", &url), header];
        let reply = stage.ask(NGINX, &question).await?;
        assert!([401, 403].contains(&reply.status), "{uri} {header:?}: {reply:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nginx_gets_what_it_understands_and_asks_again_for_the_rest() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let url = stage.stage.env.url("app", "/inside");
    let question = [("X-Original-Method", "GET"), ("X-Original-URL", url.as_str())];
    let reply = stage.ask(NGINX, &question).await?;
    assert_eq!(reply.status, 401, "{reply:?}");
    assert!(
        reply
            .header("location")
            .is_some_and(|to| to.contains("/.pomerium/sign_in?"))
    );
    let reply = stage.ask("/auth-request/answer", &question).await?;
    assert_eq!(reply.status, 302, "{reply:?}");
    // Allowed in between: the client gets a page to try again, and nothing that is for the application.
    let question = [question.as_slice(), &[("Cookie", stage.cookie.as_str())]].concat();
    assert_eq!(stage.ask(NGINX, &question).await?.status, 200);
    let reply = stage.ask("/auth-request/answer", &question).await?;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("x-pomerium-jwt-assertion"), None);
    Ok(())
}

#[tokio::test]
async fn a_request_line_is_told_whole_once_and_without_contradiction() -> Result<()> {
    let stage = DecisionStage::start().await?;
    // Everybody may enter here, and the session admits to the other: whatever is mixed up shows.
    let (open, app) = (stage.host("open"), stage.host("app"));
    let good = forwarded(&open, "/a");
    assert_eq!(stage.ask(FORWARD, &good).await?.status, 200);
    for missing in 0..4 {
        let mut question = good.clone();
        question.remove(missing);
        assert_eq!(stage.ask(FORWARD, &question).await?.status, 400, "{missing}");
    }
    let (other, same) = (format!("https://{app}/a"), format!("https://{open}/a"));
    for lie in [
        ("X-Original-URL", other.as_str()),
        ("X-Original-Method", "POST"),
        ("X-Original-URI", "/b"),
        ("X-Rewrite-URL", "/b"),
        ("X-Forwarded-Uri", "/a"),
        ("X-Forwarded-Host", &app),
        ("X-Forwarded-Method", "GET"),
        ("x_forwarded_uri", "/a"),
        ("X-Forwarded_Host", &open),
        ("X_Original_URL", &same),
    ] {
        let reply = stage.ask(FORWARD, &[good.clone(), vec![lie]].concat()).await?;
        assert_eq!(reply.status, 400, "{lie:?}: {reply:?}");
    }
    let reply = stage
        .ask(FORWARD, &[good.clone(), vec![("X-Original-URL", &same)]].concat())
        .await?;
    assert_eq!(reply.status, 200, "what agrees does no harm");
    let question = [("X-Original-URL", same.as_str()), ("X-Original-Method", "GET")];
    assert_eq!(
        stage.ask(FORWARD, &question).await?.status,
        400,
        "the words of another proxy"
    );
    assert_eq!(stage.ask(NGINX, &good).await?.status, 403);
    for lie in [
        ("X-Forwarded-Uri", "/b"),
        ("X-Forwarded-Host", app.as_str()),
        ("X-Original-URL", &same),
    ] {
        let reply = stage.ask(NGINX, &[question.as_slice(), &[lie]].concat()).await?;
        assert_eq!(reply.status, 403, "{lie:?}");
    }
    Ok(())
}

#[tokio::test]
async fn doubtful_paths_hosts_and_methods_are_refused() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    let port = stage.stage.env.port();
    for uri in [
        "//evil.example.com/a",
        "/a//b",
        "http://evil.example.com/a",
        "evil",
        "*",
        "/a#b",
        "/a/../b",
        "/a/%2e%2e/b",
        "/a%2fb",
        "/a%5cb",
        "/a\\b",
        "/a b",
        "/%",
        "/\u{e4}",
    ] {
        assert_eq!(
            stage.ask(FORWARD, &forwarded(&open, uri)).await?.status,
            400,
            "{uri}"
        );
        let url = format!("https://{open}{uri}");
        let question = [("X-Original-Method", "GET"), ("X-Original-URL", url.as_str())];
        assert_eq!(stage.ask(NGINX, &question).await?.status, 403, "{uri}");
    }
    let upper = open.to_uppercase();
    assert_eq!(
        stage.ask(FORWARD, &forwarded(&upper, "/")).await?.status,
        200,
        "one name in two cases"
    );
    for host in [
        format!("open.example.com.:{port}"),
        format!("open.example.com:0{port}"),
        format!("user@open.example.com:{port}"),
        format!("{open}, {open}"),
        format!("{open}/x"),
        String::new(),
    ] {
        assert_eq!(
            stage.ask(FORWARD, &forwarded(&host, "/")).await?.status,
            400,
            "{host}"
        );
    }
    for (name, value) in [
        ("X-Forwarded-Method", ""),
        ("X-Forwarded-Method", "GET POST"),
        ("X-Forwarded-Method", "CONNECT"),
        ("X-Forwarded-Proto", "ftp"),
        ("X-Forwarded-Proto", "https,http"),
    ] {
        let mut question = forwarded(&open, "/");
        question.retain(|(known, _)| *known != name);
        question.push((name, value));
        assert_eq!(
            stage.ask(FORWARD, &question).await?.status,
            400,
            "{name}: {value}"
        );
    }
    // Bytes that are no text.
    let mut head = format!(
        "GET {FORWARD} HTTP/1.1\r\nHost: x\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: {open}\r\nX-Forwarded-Uri: /"
    )
    .into_bytes();
    head.extend(b"\xff\xfe\r\n\r\n");
    assert_eq!(stage.raw(&head).await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn identity_headers_of_clients_are_refused_in_every_spelling() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    for name in [
        "X-Pomerium-Jwt-Assertion",
        "x_pomerium_jwt_assertion",
        "X-Pomerium_Claim-Email",
        "X-Pomerium-Claim-Email",
        "X-Forwarded-User",
        "X_Forwarded_User",
        "X-Forwarded-Groups",
    ] {
        let question = [forwarded(&open, "/"), vec![(name, "admin@example.com")]].concat();
        let reply = stage.ask(FORWARD, &question).await?;
        assert_eq!(reply.status, 400, "{name}: {reply:?}");
    }
    Ok(())
}

#[tokio::test]
async fn too_much_is_refused() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    let long = "a".repeat(127 * 1024);
    let uri = format!("/{long}");
    assert_eq!(stage.ask(FORWARD, &forwarded(&open, &uri)).await?.status, 400);
    let question = [
        forwarded(&open, "/"),
        vec![("X-Long", long.as_str()), ("X-Longer", &uri[..2048])],
    ]
    .concat();
    assert_eq!(stage.ask(FORWARD, &question).await?.status, 431);
    let names: Vec<String> = (0..1001).map(|number| format!("x-{number}")).collect();
    let many = names.iter().map(|name| (name.as_str(), "y"));
    let question = forwarded(&open, "/").into_iter().chain(many).collect::<Vec<_>>();
    assert_eq!(stage.ask(FORWARD, &question).await?.status, 431);
    Ok(())
}

/// The authenticate host is handed on whole: nobody may ask for decisions, and with them for an assertion, through it.
#[tokio::test]
async fn a_browser_cannot_ask_through_the_proxy() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let (auth, app) = (stage.host("auth"), stage.host("app"));
    let head = format!(
        "GET {FORWARD} HTTP/1.1\r\nHost: {auth}\r\nCookie: {}\r\nX-Forwarded-Method: GET\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: {app}\r\nX-Forwarded-Uri: /\r\n\r\n",
        stage.cookie
    );
    let reply = stage.raw(head.as_bytes()).await?;
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(reply.header("x-pomerium-jwt-assertion"), None);
    // Nothing but paths of ours is served to those who are handed on.
    for path in [
        "/",
        "/inside",
        "/.pomerium/../inside",
        "/.pomerium/../forward-auth",
    ] {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {app}\r\nCookie: {}\r\nX-Forwarded-Proto: https\r\n\r\n",
            stage.cookie
        );
        let reply = stage.raw(head.as_bytes()).await?;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    assert!(stage.stage.upstream.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_client_address_is_the_last_that_is_no_proxy() -> Result<()> {
    let stage = DecisionStage::start().await?;
    let open = stage.host("open");
    for (number, (told, known)) in [
        (Some("192.0.2.7"), "192.0.2.7"),
        (Some("10.9.9.9, 192.0.2.7"), "192.0.2.7"),
        (Some("192.0.2.7, 127.0.0.1"), "192.0.2.7"),
        (Some("192.0.2.7, nonsense"), "127.0.0.1"),
        (None, "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/case-{number}");
        let mut question = forwarded(&open, &path);
        question.retain(|(name, _)| *name != "X-Forwarded-For");
        question.extend(told.map(|told| ("X-Forwarded-For", told)));
        assert_eq!(stage.ask(FORWARD, &question).await?.status, 200);
        let line = stage
            .stage
            .env
            .log()
            .wait_json(0, "the decision", |line| {
                line["message"] == "authorize check" && line["path"] == path
            })
            .await?;
        assert_eq!(line["ip"], known, "{told:?}");
    }
    Ok(())
}
