//! Request smuggling (pingora CVE-2025-4366, CVE-2026-2833, -2835, -2836 and their kind). Each doubtful
//! message is refused with the connection closed, or reaches the upstream in exactly one framing.

use anyhow::Result;
use pomerium_testing::{Environment, Recorded, Route, Upstream};

async fn stage() -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .route(
            Route::new("ws", &upstream.url())
                .public()
                .set("allow_websockets", true),
        )
        .start()
        .await?;
    Ok((env, upstream))
}

/// Sends bytes with `{host}` filled in and one last good request that ends the connection; returns
/// everything that came back and everything that arrived, but for that last request. Closing our half
/// instead would make the server give up, and nothing would be tested.
async fn send(
    env: &Environment,
    upstream: &Upstream,
    name: &str,
    message: &str,
) -> Result<(String, Vec<Recorded>)> {
    upstream.take_requests();
    let mut client = env.raw(name).await?;
    let message = format!("{message}{LAST}").replace("{host}", &env.authority_of(name));
    client.send(message).await?;
    let answer = client.read_to_close().await?;
    let mut answer = String::from_utf8_lossy(&answer).into_owned();
    let mut arrived = upstream.take_requests();
    if arrived.last().is_some_and(|request| request.target == "/last") {
        arrived.pop();
        answer.truncate(answer.rfind("HTTP/1.1 ").unwrap_or_default());
    }
    Ok((answer, arrived))
}

const LAST: &str = "GET /last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: {host}\r\n\r\n";

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
async fn doubtful_framing_never_becomes_a_second_request() -> Result<()> {
    let (env, upstream) = stage().await?;
    let cases = [
        (
            "CL and TE",
            format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "TE and CL",
            format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "CL twice",
            format!("Content-Length: 0\r\nContent-Length: 44\r\n\r\n{HIDDEN}"),
        ),
        ("CL list", format!("Content-Length: 0, 44\r\n\r\n{HIDDEN}")),
        ("CL with sign", format!("Content-Length: +0\r\n\r\n{HIDDEN}")),
        ("CL negative", format!("Content-Length: -1\r\n\r\n{HIDDEN}")),
        ("CL in hex", format!("Content-Length: 0x0\r\n\r\n{HIDDEN}")),
        (
            "TE twice",
            format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "TE list",
            format!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "TE list, chunked first",
            format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "TE unknown",
            format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "TE with tab",
            format!("Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "TE with blank before colon",
            format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "obs-fold",
            format!("X: a\r\n b\r\nContent-Length: 0\r\n\r\n{HIDDEN}"),
        ),
        (
            "obs-fold in TE",
            format!("Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "bad chunk size",
            format!("Transfer-Encoding: chunked\r\n\r\nZ\r\n\r\n{HIDDEN}"),
        ),
        (
            "chunk size overflow",
            format!("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{HIDDEN}"),
        ),
        (
            "chunk longer than said",
            format!("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "bare LF in chunk size",
            format!("Transfer-Encoding: chunked\r\n\r\n0\n\n{HIDDEN}"),
        ),
        (
            "NUL in a value",
            format!("X: a\0b\r\nContent-Length: 0\r\n\r\n{HIDDEN}"),
        ),
        (
            "CR in a value",
            format!("X: a\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{HIDDEN}"),
        ),
    ];
    for (name, rest) in cases {
        let message = format!("POST /first HTTP/1.1\r\nHost: {{host}}\r\n{rest}");
        let (answer, arrived) = send(&env, &upstream, "open", &message).await?;
        let refused = answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501");
        if refused {
            assert!(arrived.is_empty(), "{name}: refused, and yet {arrived:?}");
            assert_eq!(
                answer.matches("HTTP/1.1 ").count(),
                1,
                "{name}: the connection went on: {answer}"
            );
            continue;
        }
        // Not refused: then the first request arrived in one framing. What follows it on the connection
        // is a request that the client made in the open, judged as any other; it must not be a body part.
        for request in &arrived {
            let lengths = request.headers_named("content-length").len();
            let codings = request.headers_named("transfer-encoding").len();
            assert!(
                lengths + codings <= 1,
                "{name}: two framings upstream: {request:?}"
            );
            assert!(
                !String::from_utf8_lossy(&request.body).contains("/hidden"),
                "{name}: {request:?}"
            );
        }
        let answers = answer.matches("HTTP/1.1 2").count();
        assert_eq!(
            answers,
            arrived.len(),
            "{name}: as many answers as requests upstream: {answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn both_framings_at_once_close_the_connection() -> Result<()> {
    let (env, upstream) = stage().await?;
    let message = format!(
        "POST /first HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
    );
    let (answer, arrived) = send(&env, &upstream, "open", &message).await?;
    assert!(
        arrived.iter().all(|request| request.target != "/hidden"),
        "{answer}\n{arrived:?}"
    );
    Ok(())
}

#[tokio::test]
async fn old_and_odd_request_lines_are_refused() -> Result<()> {
    let (env, upstream) = stage().await?;
    for (head, statuses) in [
        ("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n", &["426"][..]),
        (
            "GET / HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &["426", "400"],
        ),
        ("GET /\r\n\r\n", &["400"]),
        ("GET / HTTP/1.1\r\n\r\n", &["400"]),
        ("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n", &["400"]),
        ("GET / HTTP/1.1\r\nHost : {host}\r\n\r\n", &["400"]),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &["400"]),
        (
            "GET https://user:secret@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
            &["400"],
        ),
        ("GET / HTTP/1.1\r\nHost: {host}\r\nX_Y: 1\r\n\r\n", &["400"]),
        ("GET / HTTP/2.0\r\nHost: {host}\r\n\r\n", &["400", "505"]),
    ] {
        let (answer, arrived) = send(&env, &upstream, "open", head).await?;
        let status = answer.split(' ').nth(1).unwrap_or("closed").to_owned();
        assert!(statuses.contains(&status.as_str()), "{head:?}: {answer:?}");
        assert!(arrived.is_empty(), "{head:?}: {arrived:?}");
    }
    Ok(())
}

#[tokio::test]
async fn bytes_behind_an_upgrade_do_not_run_ahead_of_the_answer() -> Result<()> {
    let (env, upstream) = stage().await?;
    let upgrade = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {{host}}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n{HIDDEN}"
        )
    };
    // The application refuses the upgrade: what stood behind it is a request like any other, or nothing.
    let (answer, arrived) = send(&env, &upstream, "ws", &upgrade("/not-a-socket")).await?;
    assert!(arrived.len() <= 2, "{arrived:?}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), arrived.len(), "{answer}");
    // Where upgrades are not allowed nothing passes at all.
    let (answer, arrived) = send(&env, &upstream, "open", &upgrade("/ws")).await?;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(arrived.is_empty(), "{arrived:?}");
    Ok(())
}

#[tokio::test]
async fn a_body_left_unread_does_not_become_the_next_request() -> Result<()> {
    let (env, upstream) = stage().await?;
    let body = HIDDEN.replace("{host}", &env.authority_of("open"));
    let message = format!(
        "POST /early HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..5 {
        let (_, arrived) = send(&env, &upstream, "open", &message).await?;
        assert!(
            arrived.iter().all(|request| request.target == "/early"),
            "{arrived:?}"
        );
        // Another client on the same upstream connections gets its own answer.
        let reply = env.http1_client()?.get(&env.url("open", "/mine")).await?;
        assert_eq!(reply.json()?["target"], "/mine");
    }
    Ok(())
}
