//! Bodies: streaming, lying, stalling, breaking off.

use std::time::Duration;

use super::support::*;

#[tokio::test]
async fn an_answer_streams_as_it_comes() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let upstream = upstream(move |mut client, _| {
        let mut wait = wait.clone();
        async move {
            read_request(&mut client).await;
            client
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await;
            wait.wait_for(|go| *go).await.unwrap();
            client.send("6\r\nsecond\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    client.until("first\r\n").await;
    go.send(true).unwrap();
    client.until("second\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_request_streams_as_it_comes_and_waits_for_the_upstream() {
    let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut client, _| {
        let told = told.clone();
        async move {
            client.until("\r\n\r\n").await;
            client.until("abc").await;
            told.send(()).unwrap();
            client.until("def").await;
            client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    seen.recv().await.unwrap();
    client.send("def").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn expect_continue_is_answered_when_the_upstream_is_asked() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.0, 100);
    client.send("abc").await;
    let answer = client.answer().await;
    assert!(answer.text().contains("\r\n\r\nabc"), "{}", answer.text());
    assert!(!answer.text().to_ascii_lowercase().contains("expect"));
}

#[tokio::test]
async fn a_refused_client_need_not_send_its_body() {
    let routes = "  - from: https://app.example.com\n    to: http://127.0.0.1:1\n    policy: {deny: {or: [accept: true]}}\n";
    let proxy = Proxy::start(&settings("", routes)).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.0, 403);
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let upstream = upstream(|mut client, _| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            .await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 1000000\r\n\r\nabc")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
}

/// The upstream resets the connection: it had not read all that was sent. Its answer came before that.
#[tokio::test]
async fn an_answer_counts_although_the_upstream_takes_no_more() {
    let upstream = upstream(|mut client, _| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            .await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    for _ in 0..5 {
        let mut client = proxy.connect().await;
        let body = "x".repeat(400_000);
        client
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 1000000\r\n\r\n{body}"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
    }
}

/// A server of another protocol greets: with gRPC's it is a frame of HTTP/2.
#[tokio::test]
async fn an_upstream_that_speaks_first_breaks_the_protocol() {
    let upstream = upstream(|mut client, _| async move {
        client.send("220 mail.example.com ready\r\n").await;
        // Whether it closes right away or after it has seen what it does not understand.
        client.until("\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    for _ in 0..10 {
        let answer = proxy.get("/", "Accept: application/json\r\n").await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.text().contains("protocol_error"), "{}", answer.text());
    }
}

#[tokio::test]
async fn an_upstream_that_ends_too_soon_cuts_the_answer() {
    let upstream = upstream(|mut client, number| async move {
        read_request(&mut client).await;
        let head = [
            "Content-Length: 10\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ][number % 2];
        client.send(&format!("HTTP/1.1 200 OK\r\n{head}")).await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    for _ in 0..2 {
        let mut client = proxy.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
            .await;
        let reply = client.rest().await;
        assert!(reply.contains("abc") && !reply.contains("0\r\n\r\n"), "{reply}");
    }
    assert_eq!(
        proxy.line(1).await["response-code-details"],
        "upstream_reset_after_response_started"
    );
}

#[tokio::test]
async fn upstreams_that_give_no_answer() {
    for (reply, status, details) in [
        ("", 503, "connection_termination"),
        ("HTTP/1.1 200 OK\r\nContent-Le", 503, "connection_termination"),
        ("nonsense\r\n\r\n", 502, "protocol_error"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            502,
            "protocol_error",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            502,
            "protocol_error",
        ),
    ] {
        let upstream = upstream(move |mut client, _| async move {
            read_request(&mut client).await;
            client.send(reply).await;
        })
        .await;
        let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
        let answer = proxy.get("/", "Accept: application/json\r\n").await;
        assert_eq!(answer.status, status, "{reply:?}: {}", answer.text());
        assert!(
            proxy.line(1).await["response-code-details"]
                .as_str()
                .unwrap()
                .contains(details),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_do_not_reach_the_next_client() {
    let upstream = upstream(|mut client, number| async move {
        read_request(&mut client).await;
        client.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{number}!HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")).await;
        client.rest().await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    for number in 0..3 {
        let text = proxy.get("/", "").await.text();
        assert!(!text.contains("EVIL"), "request {number} got {text}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced() {
    let upstream = upstream(|mut client, number| async move {
        read_request(&mut client).await;
        client
            .send(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"))
            .await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    for number in 0..3 {
        client
            .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.text(), number.to_string());
    }
}

#[tokio::test]
async fn a_stalled_upstream_runs_into_the_route_timeout() {
    let upstream = upstream(|mut client, _| async move {
        client.rest().await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, "    timeout: 50ms\n"))).await;
    let answer = proxy.get("/", "Accept: application/json\r\n").await;
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("response_timeout"), "{}", answer.text());
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_at_the_route_timeout() {
    let upstream = upstream(|mut client, _| async move {
        read_request(&mut client).await;
        client
            .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            .await;
        client.rest().await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, "    timeout: 50ms\n"))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert!(client.rest().await.ends_with("abc"));
    assert_eq!(proxy.line(1).await["response-code-details"], "response_timeout");
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_408() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("timeout_read: 100ms", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 5\r\n\r\nab")
        .await;
    let reply = client.rest().await;
    assert!(reply.contains(" 408 "), "{reply}");
    // A head that does not end gets the same.
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: app").await;
    let reply = client.rest().await;
    assert!(
        reply.starts_with("HTTP/1.1 408 ") && reply.contains("Connection: close"),
        "{reply}"
    );
    // A client that has sent nothing is asked nothing, and one that was served before is told as well.
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408 "));
    assert_eq!(proxy.shared.metrics.slow_heads.get(), 2);
}

#[tokio::test]
async fn an_unused_connection_is_closed() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("timeout_idle: 100ms", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(5), client.rest())
            .await
            .unwrap(),
        ""
    );
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_upstream_request_along() {
    let (told, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut client, _| {
        let told = told.clone();
        async move {
            client.until("\r\n\r\n").await;
            told.send("asked").unwrap();
            client.rest().await;
            told.send("gone").unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert_eq!(gone.recv().await, Some("asked"));
    drop(client);
    assert_eq!(gone.recv().await, Some("gone"));
}
