//! What stands around a message (pingora CVE-2025-4366, CVE-2026-2833, -2835, -2836): bytes before an upgrade
//! is answered, after CONNECT, in chunk extensions and trailers, bodies of methods that have none. Each message
//! arrives once and in one framing, and what follows it is either a request of its own or nothing.

use anyhow::Result;
use pomerium_testing::{Environment, RawUpstream, Recorded, Route, Step, Upstream};
use serde_json::json;

/// `open` is public but for `/hidden`; `ws` and `raw` are public with WebSocket.
async fn stage(raw: &str) -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let but_hidden = json!([
        { "allow": { "or": [{ "accept": true }] } },
        { "deny": { "or": [{ "http_path": { "starts_with": "/hidden" } }] } },
    ]);
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).policy(but_hidden.clone()))
        .route(
            Route::new("ws", &upstream.url())
                .policy(but_hidden.clone())
                .set("allow_websockets", true),
        )
        .route(
            Route::new("raw", if raw.is_empty() { "http://127.0.0.1:9" } else { raw })
                .policy(but_hidden)
                .set("allow_websockets", true),
        )
        .start()
        .await?;
    Ok((env, upstream))
}

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: {host}\r\n\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n";

/// Sends `message` and [`LAST`]; everything that came back, and what arrived upstream.
async fn send(
    env: &Environment,
    upstream: &Upstream,
    name: &str,
    message: &str,
) -> Result<(String, Vec<Recorded>)> {
    upstream.take_requests();
    let mut client = env.raw(name).await?;
    let bytes = format!("{message}{LAST}").replace("{host}", &env.authority_of(name));
    client.send(bytes).await?;
    let answer = String::from_utf8_lossy(&client.read_to_close().await?).into_owned();
    Ok((answer, upstream.take_requests()))
}

fn targets(requests: &[Recorded]) -> Vec<&str> {
    requests.iter().map(|request| request.target.as_str()).collect()
}

#[tokio::test]
async fn honest_odd_messages_arrive_in_one_framing_and_the_next_one_behind_them() -> Result<()> {
    let (env, upstream) = stage("").await?;
    let length = HIDDEN.replace("{host}", &env.authority_of("open")).len();
    for (name, message, body) in [
        (
            "the same length twice",
            "POST /first HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            "abc".to_owned(),
        ),
        (
            "GET with a body",
            format!("GET /first HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
            HIDDEN.replace("{host}", &env.authority_of("open")),
        ),
        (
            "GET with a chunked body",
            "GET /first HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
            "abc".to_owned(),
        ),
        (
            "DELETE with a body",
            "DELETE /first HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            "abc".to_owned(),
        ),
        (
            "chunk extensions",
            "POST /first HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n".to_owned(),
            "abc".to_owned(),
        ),
        (
            "leading zeros in a chunk size",
            "POST /first HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n".to_owned(),
            "abc".to_owned(),
        ),
        (
            "upper case coding",
            "POST /first HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
            "abc".to_owned(),
        ),
        (
            "a request in a body",
            format!("POST /first HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
            HIDDEN.replace("{host}", &env.authority_of("open")),
        ),
        (
            "length zero and an empty line in front of the next",
            "POST /first HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".to_owned(),
            String::new(),
        ),
    ] {
        let (answer, arrived) = send(&env, &upstream, "open", &message).await?;
        assert_eq!(targets(&arrived), ["/first", "/last"], "{name}: {answer}");
        assert_eq!(String::from_utf8_lossy(&arrived[0].body), body, "{name}");
        assert_eq!(arrived[1].body, b"", "{name}");
        let framings = arrived[0].headers_named("content-length").len()
            + arrived[0].headers_named("transfer-encoding").len();
        assert!(framings <= 1, "{name}: {:?}", arrived[0].headers);
    }
    Ok(())
}

#[tokio::test]
async fn trailers_do_not_become_headers_or_requests() -> Result<()> {
    let (env, upstream) = stage("").await?;
    for trailer in [
        "X-Pomerium-Jwt-Assertion: spoofed",
        "X-Forwarded-For: 10.0.0.1",
        "Content-Length: 50",
        "Transfer-Encoding: chunked",
        "Host: admin.example.com",
        "Authorization: spoofed",
        "Cookie: _pomerium=spoofed",
        "X_Email: spoofed",
        "X-Own: spoofed",
    ] {
        // Announced, as it must be to be passed on at all.
        let name = trailer.split(':').next().unwrap_or_default();
        let message = format!(
            "POST /first HTTP/1.1\r\nHost: {{host}}\r\nTransfer-Encoding: chunked\r\nTrailer: {name}\r\n\r\n3\r\nabc\r\n0\r\n{trailer}\r\n\r\n"
        );
        let (answer, arrived) = send(&env, &upstream, "open", &message).await?;
        for request in &arrived {
            assert!(
                !request
                    .headers
                    .iter()
                    .any(|(_, value)| value.contains("spoofed") || value == "10.0.0.1"),
                "{trailer}: {request:?}"
            );
            assert!(
                request.target == "/first" || request.target == "/last",
                "{answer}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn broken_messages_end_the_connection() -> Result<()> {
    let (env, upstream) = stage("").await?;
    let head = "POST /first HTTP/1.1\r\nHost: {host}\r\n";
    for (name, rest) in [
        ("negative chunk", "Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
        (
            "hex mark",
            "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "blank before the size",
            "Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "plus in the size",
            "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "underscore in the size",
            "Transfer-Encoding: chunked\r\n\r\n0_3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "no size",
            "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "size overflow",
            "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
        ),
        (
            "no CRLF behind a chunk",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
        ),
        (
            "bare LF in an extension",
            "Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "bare CR behind the size",
            "Transfer-Encoding: chunked\r\n\r\n3\rabc\r\n0\r\n\r\n",
        ),
        ("huge length", "Content-Length: 99999999999999999999999\r\n\r\n"),
        ("length with a blank", "Content-Length: 1 2\r\n\r\nab"),
        ("length of letters", "Content-Length: ab\r\n\r\nab"),
        ("empty length", "Content-Length: \r\n\r\n"),
        ("unequal lengths in a list", "Content-Length: 3, 4\r\n\r\nabcd"),
        (
            "unequal lengths",
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        ),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked twice in a list",
            "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked in quotes",
            "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked with a parameter",
            "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        ),
        ("vertical tab", "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ("identity", "Transfer-Encoding: identity\r\n\r\nabc"),
        ("gzip alone", "Transfer-Encoding: gzip\r\n\r\nabc"),
        ("empty coding", "Transfer-Encoding: \r\n\r\n"),
        ("a line without a colon", "Nonsense\r\n\r\n"),
        ("a line that begins with a colon", ": value\r\n\r\n"),
        ("a blank in a name", "X Y: 1\r\n\r\n"),
        ("a NUL in a name", "X\0Y: 1\r\n\r\n"),
        ("fold in front of everything", " folded\r\n\r\n"),
    ] {
        let message = format!("{head}{rest}{HIDDEN}");
        let (answer, arrived) = send(&env, &upstream, "open", &message).await?;
        assert!(
            arrived.is_empty(),
            "{name}: {:?} arrived; {answer}",
            targets(&arrived)
        );
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{name}: the connection went on: {answer}");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
            "{name}: {answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn line_ends_that_others_take_make_no_second_request() -> Result<()> {
    let (env, upstream) = stage("").await?;
    for (name, message) in [
        ("bare LF", "GET /first HTTP/1.1\nHost: {host}\n\n"),
        (
            "bare LF hides a length",
            "POST /first HTTP/1.1\r\nHost: {host}\r\nX: y\nContent-Length: 0\r\n\r\n",
        ),
        (
            "bare CR hides a length",
            "POST /first HTTP/1.1\r\nHost: {host}\r\nX: y\rContent-Length: 44\r\n\r\n",
        ),
        ("LF in front", "\nGET /first HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        (
            "CRLF in front",
            "\r\n\r\nGET /first HTTP/1.1\r\nHost: {host}\r\n\r\n",
        ),
    ] {
        let (answer, arrived) = send(&env, &upstream, "open", &format!("{message}{HIDDEN}")).await?;
        let seen = targets(&arrived);
        assert!(
            seen.iter()
                .all(|target| *target == "/first" || *target == "/last"),
            "{name}: {seen:?}"
        );
        assert!(
            seen.iter().filter(|target| **target == "/first").count() <= 1,
            "{name}: {seen:?} {answer}"
        );
        // The closed path behind it was judged by itself: its own refusal, or the end of the connection.
        let refused = answer.starts_with("HTTP/1.1 4") && seen.is_empty();
        assert!(refused || answer.contains("HTTP/1.1 403 "), "{name}: {answer}");
        for request in &arrived {
            assert!(
                request
                    .headers
                    .iter()
                    .all(|(_, value)| !value.contains(['\r', '\n'])),
                "{name}: {request:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn connect_opens_nothing() -> Result<()> {
    let (env, upstream) = stage("").await?;
    for target in [
        "{host}",
        "127.0.0.1:22",
        "app.example.com:443",
        "169.254.169.254:80",
        "[::1]:22",
        "evil.example.org:443",
    ] {
        for version in ["1.1", "1.0"] {
            let message = format!("CONNECT {target} HTTP/{version}\r\nHost: {{host}}\r\n\r\n{HIDDEN}");
            let (answer, arrived) = send(&env, &upstream, "open", &message).await?;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{target}: {answer}");
            assert!(
                arrived.iter().all(|request| request.target == "/last"),
                "{target}: {arrived:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn old_versions_with_new_framing_are_refused() -> Result<()> {
    let (env, upstream) = stage("").await?;
    for rest in [
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Connection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let message = format!("POST /first HTTP/1.0\r\nHost: {{host}}\r\n{rest}{HIDDEN}");
        let (answer, arrived) = send(&env, &upstream, "open", &message).await?;
        assert!(arrived.is_empty(), "{rest:?}: {arrived:?}");
        let answers = answer.matches("HTTP/1.1 ").count() + answer.matches("HTTP/1.0 4").count();
        assert_eq!(answers, 1, "{rest:?}: {answer}");
    }
    Ok(())
}

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {{host}}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn nothing_runs_ahead_of_the_answer_to_an_upgrade() -> Result<()> {
    // An upstream that never answers the upgrade, and one that says no.
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        let mut script = vec![Step::ReadHead];
        if !answer.is_empty() {
            script.push(Step::write(answer));
        }
        script.push(Step::Hold);
        let raw = RawUpstream::start(script).await?;
        let (env, _upstream) = stage(&raw.url()).await?;
        let mut client = env.raw("raw").await?;
        let bytes =
            format!("{}{HIDDEN}{HIDDEN}", upgrade("/socket", "")).replace("{host}", &env.authority_of("raw"));
        client.send(bytes).await?;
        if answer.is_empty() {
            // Another request on another connection is answered: what was sent before had its chance.
            assert_eq!(env.client()?.get(&env.url("open", "/")).await?.status, 200);
        } else {
            assert_eq!(client.reply(false).await?.status, 200);
            // The rest is judged as requests of their own, or the connection ends.
            if let Ok(reply) = client.reply(false).await {
                assert_eq!(reply.status, 403);
            }
        }
        for received in raw.received() {
            let text = String::from_utf8_lossy(&received).into_owned();
            assert!(!text.contains("/hidden"), "{answer:?}: {text}");
            assert!(text.matches("HTTP/1.1").count() <= 1, "{text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_with_a_body_or_two_protocols_is_no_upgrade() -> Result<()> {
    let (env, upstream) = stage("").await?;
    for more in [
        "Content-Length: 44\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Upgrade: other\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ] {
        upstream.take_requests();
        let mut client = env.raw("ws").await?;
        let bytes = upgrade("/ws", more).replace("{host}", &env.authority_of("ws"));
        client.send(format!("{bytes}0\r\n\r\n")).await?;
        client
            .send(HIDDEN.replace("{host}", &env.authority_of("ws")))
            .await?;
        let reply = client.reply(false).await?;
        assert_ne!(reply.status, 101, "{more:?}");
        for request in upstream.take_requests() {
            assert_ne!(request.target, "/hidden", "{more:?}");
        }
    }
    // The control: without any of it, it is one.
    let mut client = env.raw("ws").await?;
    client
        .send(upgrade("/ws", "").replace("{host}", &env.authority_of("ws")))
        .await?;
    assert_eq!(client.reply(false).await?.status, 101);
    Ok(())
}
