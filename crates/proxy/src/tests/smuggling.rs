//! Requests that two parsers could read in two ways: each is refused, or reaches the upstream in
//! exactly one framing.

use super::support::*;

/// Sends raw bytes on a fresh connection; returns all that comes back until it is closed.
async fn refused(raw: &str) {
    let upstream = upstream(|_, _| async { panic!("a refused request reached the upstream") }).await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client.send(raw).await;
    let reply = client.rest().await;
    let status: u16 = reply
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    assert!((400..500).contains(&status), "{raw:?} gave {reply:?}");
    assert_eq!(
        reply.lines().filter(|line| line.starts_with("HTTP/1.")).count(),
        1,
        "{raw:?} gave more than one answer: {reply:?}"
    );
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: app.example.com\r\n\r\n";

#[tokio::test]
async fn doubtful_framing_is_refused_and_the_connection_ends() {
    for headers in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x3\r\n",
        "X: a\r\n b\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length : 3\r\n",
        "Bad Name: 1\r\n",
        "X-A: b\0c\r\n",
    ] {
        refused(&format!(
            "POST / HTTP/1.1\r\nHost: app.example.com\r\n{headers}\r\n0\r\n\r\n{SMUGGLED}"
        ))
        .await;
    }
}

#[tokio::test]
async fn doubtful_targets_and_hosts_are_refused() {
    for head in [
        "GET /a%2fb HTTP/1.1\r\nHost: app.example.com\r\n",
        "GET /a%5Cb HTTP/1.1\r\nHost: app.example.com\r\n",
        "GET /a%00b HTTP/1.1\r\nHost: app.example.com\r\n",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: app.example.com\r\nHost: app.example.com\r\n",
        "GET / HTTP/1.1\r\nHost: app.example.com x\r\n",
        "GET http://user@app.example.com/ HTTP/1.1\r\nHost: app.example.com\r\n",
        "GET / HTTP/1.0\r\nHost: app.example.com\r\n",
        "GET / HTTP/1.1\r\nHost: app.example.com\r\nX_Bad: 1\r\n",
        "GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: X-Forwarded-Proto, close\r\n",
    ] {
        refused(&format!("{head}\r\n{SMUGGLED}")).await;
    }
}

#[tokio::test]
async fn old_http_is_told_to_upgrade() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.0\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert!(client.rest().await.contains(" 426 "));
}

#[tokio::test]
async fn length_beside_chunks_goes_up_in_one_framing_and_ends_the_connection() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let mut client = proxy.connect().await;
        client
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: app.example.com\r\n{headers}\r\n3\r\nabc\r\n0\r\n\r\n{SMUGGLED}"
            ))
            .await;
        let reply = client.rest().await;
        assert_eq!(
            reply.matches("HTTP/1.1 200").count() + reply.matches("HTTP/1.1 400").count(),
            1,
            "{reply}"
        );
        let seen = reply.to_ascii_lowercase();
        assert!(
            !seen.contains("smuggled") && !seen.contains("content-length: 4\r\n"),
            "{reply}"
        );
        if seen.starts_with("http/1.1 200") {
            assert!(seen.contains("transfer-encoding: chunked\r\n"), "{reply}");
        }
    }
}

#[tokio::test]
async fn broken_chunks_never_end_a_request_upstream() {
    for body in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n",
    ] {
        let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let upstream = upstream(move |mut client, _| {
            let told = told.clone();
            async move {
                let _ = told.send(client.rest().await);
            }
        })
        .await;
        let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
        let mut client = proxy.connect().await;
        client
            .send(&format!("POST / HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"))
            .await;
        let reply = client.rest().await;
        assert!(!reply.contains(" 200 "), "{reply}");
        let upstream_saw = seen.recv().await.unwrap();
        assert!(!upstream_saw.contains("0\r\n\r\n"), "{body:?}: {upstream_saw:?}");
        assert!(!upstream_saw.contains("smuggled"), "{body:?}: {upstream_saw:?}");
    }
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    let seen = client.answer().await.text();
    assert!(
        seen.to_ascii_lowercase()
            .contains("transfer-encoding: chunked\r\n"),
        "{seen}"
    );
    assert!(seen.ends_with("\r\n\r\nabc\n#0"), "{seen}");
}

#[tokio::test]
async fn a_fragment_is_not_part_of_what_is_judged_or_forwarded() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET /a#/../b HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")
        .await;
    let reply = client.rest().await;
    assert!(
        reply.contains(" 400 ") || reply.contains("GET /a HTTP/1.1"),
        "{reply}"
    );
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let large = format!("X-Large: {}\r\n", "a".repeat(140 * 1024));
    let many: String = (0..1100).map(|number| format!("X-{number}: 1\r\n")).collect();
    for headers in [large, many] {
        let mut client = proxy.connect().await;
        client
            .send(&format!(
                "GET / HTTP/1.1\r\nHost: app.example.com\r\n{headers}\r\n"
            ))
            .await;
        assert!(client.rest().await.contains(" 431 "));
    }
}
