//! Forwarding, refusing, logging.

use super::support::*;

#[tokio::test]
async fn a_request_is_forwarded_and_its_answer_comes_back() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let answer = proxy
        .get("/a//b/../c?x=%2f", "Foo-BAR: q\r\nX-Forwarded-For: 192.0.2.9\r\n")
        .await;
    assert_eq!(answer.status, 200);
    let seen = answer.text();
    assert!(seen.starts_with("GET /a/c?x=%2f HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("Foo-BAR: q\r\n"), "{seen}");
    let lower = seen.to_ascii_lowercase();
    assert!(lower.contains(&format!("host: {upstream}\r\n")), "{seen}");
    assert!(
        lower.contains("x-forwarded-for: 192.0.2.9,127.0.0.1\r\n"),
        "{seen}"
    );
    assert!(lower.contains("x-forwarded-host: app.example.com\r\n"), "{seen}");
    assert!(lower.contains("x-forwarded-proto: http\r\n"), "{seen}");
    assert!(answer.header("server").is_none(), "{}", answer.head);
    assert!(answer.header("x-frame-options").is_some());
    let id = answer.header("x-request-id").unwrap();
    assert!(lower.contains(&format!("x-request-id: {id}\r\n")));

    let line = proxy.line(1).await;
    assert_eq!(line["path"], "/a/c");
    assert_eq!(line["authority"], upstream.to_string());
    assert_eq!(line["response-code"], 200);
    assert_eq!(line["response-code-details"], "via_upstream");
    assert_eq!(line["request-id"], id);
    assert_eq!(line["size"], answer.body.len());
    let judged = &proxy.lines("authorize check")[0];
    assert_eq!(judged["allow"], true);
    assert_eq!(judged["request-id"], id);
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        client
            .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
            .await;
        let answer = client.answer().await;
        assert!(answer.text().ends_with("\n#0"), "{}", answer.text());
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: app.example.com\r\n\r\n");
    client.send(&[one("/1"), one("/2"), one("/3")].concat()).await;
    for path in ["/1", "/2", "/3"] {
        assert!(client.answer().await.text().starts_with(&format!("GET {path} ")));
    }
}

#[tokio::test]
async fn hosts_and_paths_without_a_route_are_404() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, "    prefix: /api\n"))).await;
    let answer = proxy.get("/other", "Accept: application/json\r\n").await;
    assert_eq!(answer.status, 404);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["statusText"], "route_not_found");
    assert_eq!(body["requestId"], answer.header("x-request-id").unwrap());
    let mut client = proxy.connect().await;
    client
        .send("GET /api HTTP/1.1\r\nHost: other.example.com\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("<html"), "{}", answer.text());
    client
        .send("CONNECT app.example.com:443 HTTP/1.1\r\nHost: app.example.com:443\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 404);
    assert_eq!(proxy.line(1).await["response-code-details"], "route_not_found");
}

#[tokio::test]
async fn internal_paths_go_to_the_control_plane_on_every_host() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    assert!(
        proxy
            .get("/healthz", "")
            .await
            .text()
            .starts_with("control /healthz")
    );
    let mut client = proxy.connect().await;
    client
        .send("HEAD /ping HTTP/1.1\r\nHost: nowhere.example.com\r\n\r\n")
        .await;
    let (status, head) = client.head().await;
    assert_eq!(status, 200);
    assert!(head.to_ascii_lowercase().contains("content-length: "), "{head}");
    client
        .send("GET /.pomeriumx HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert!(client.answer().await.text().starts_with("GET /.pomeriumx "));
}

#[tokio::test]
async fn redirects_and_answers_of_routes() {
    let routes = "  - from: https://app.example.com\n    prefix: /old\n    redirect: {prefix_rewrite: /new, https_redirect: true}\n    allow_public_unauthenticated_access: true\n  - from: https://app.example.com\n    response: {status: 418, body: short}\n    allow_public_unauthenticated_access: true\n";
    let proxy = Proxy::start(&settings("", routes)).await;
    let answer = proxy.get("/old/x?y=1", "").await;
    assert_eq!(answer.status, 301);
    assert_eq!(
        answer.header("location").unwrap(),
        "https://app.example.com/new/x?y=1"
    );
    let answer = proxy.get("/any", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (418, "short"));
    assert_eq!(answer.header("content-type").unwrap(), "text/plain");
    let mut client = proxy.connect().await;
    client.send("HEAD /any HTTP/1.1\r\nHost: app.example.com\r\n\r\nGET /any HTTP/1.1\r\nHost: app.example.com\r\n\r\n").await;
    let (status, head) = client.head().await;
    assert_eq!(status, 418);
    assert!(head.to_ascii_lowercase().contains("content-length: 5"), "{head}");
    assert_eq!(client.answer().await.text(), "short");
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten() {
    let upstream = mirror().await;
    let more = "    prefix: /admin/\n    prefix_rewrite: /\n    host_rewrite: inner.example.com\n    set_request_headers: {X-Set: 'a$$b'}\n    remove_request_headers: [X-Secret]\n";
    let proxy = Proxy::start(&settings("", &public(upstream, more))).await;
    let seen = proxy
        .get("/admin/x?q=1", "X-Secret: 1\r\nX-Set: client\r\n")
        .await
        .text()
        .to_ascii_lowercase();
    assert!(seen.starts_with("get /x?q=1 http/1.1"), "{seen}");
    assert!(seen.contains("host: inner.example.com\r\n"));
    assert!(seen.contains("x-envoy-original-path: /admin/x?q=1\r\n"));
    assert!(seen.contains("x-set: a$b\r\n") && !seen.contains("client") && !seen.contains("x-secret"));
}

#[tokio::test]
async fn an_upstream_that_is_down_is_503() {
    let proxy = Proxy::start(&settings("", &public(nobody().await, ""))).await;
    let answer = proxy.get("/", "Accept: application/json\r\n").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("connection_failure"), "{}", answer.text());
}

#[tokio::test]
async fn another_destination_is_tried_when_one_is_down() {
    let (up, down) = (mirror().await, nobody().await);
    let routes = format!(
        "  - from: https://app.example.com\n    to: [http://{down}, http://{up}]\n    allow_public_unauthenticated_access: true\n"
    );
    let proxy = Proxy::start(&settings("", &routes)).await;
    for _ in 0..4 {
        let answer = proxy.get("/", "").await;
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .text()
                .to_ascii_lowercase()
                .contains(&format!("host: {up}\r\n")),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn the_redirect_listener_sends_everybody_to_https() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings(
        "http_redirect_addr: 127.0.0.1:0",
        &public(upstream, ""),
    ))
    .await;
    let stream = tokio::net::TcpStream::connect(proxy.plane.redirect_addrs()[0])
        .await
        .unwrap();
    let mut client = Client {
        stream,
        read: Vec::new(),
    };
    client
        .send("GET /a?b HTTP/1.1\r\nHost: app.example.com:8080\r\n\r\n")
        .await;
    let reply = client.rest().await;
    assert!(reply.starts_with("HTTP/1.1 301"), "{reply}");
    assert!(
        reply
            .to_ascii_lowercase()
            .contains("location: https://app.example.com/a?b\r\n"),
        "{reply}"
    );
}

#[tokio::test]
async fn heads_of_many_fields_pass_between_ordinary_ones_on_one_connection() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    for fields in [0, 90, 300, 0, 980, 1] {
        let many: String = (0..fields).map(|n| format!("X-Field-{n}: {n}\r\n")).collect();
        let (first, second) = many.split_at(many.len() / 2);
        client
            .send(&format!(
                "GET /{fields} HTTP/1.1\r\nHost: app.example.com\r\n{first}"
            ))
            .await;
        client.send(&format!("{second}\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200, "{fields}");
        let seen = answer.text();
        assert!(seen.starts_with(&format!("GET /{fields} HTTP/1.1")), "{seen}");
        assert_eq!(seen.matches("X-Field-").count(), fields);
    }
    let too_many: String = (0..1001).map(|n| format!("X-Field-{n}: {n}\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: app.example.com\r\n{too_many}\r\n");
    client.send(&request).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn a_wide_head_right_behind_an_ordinary_request_is_answered_in_its_turn() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    let many: String = (0..95).map(|n| format!("X-Field-{n}: {n}\r\n")).collect();
    let both = format!(
        "GET /first HTTP/1.1\r\nHost: app.example.com\r\n\r\nGET /second HTTP/1.1\r\nHost: app.example.com\r\n{many}\r\n"
    );
    client.send(&both).await;
    for path in ["/first", "/second"] {
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().starts_with(&format!("GET {path} ")),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_and_counted() {
    let proxy = Proxy::start(&settings("", &public(mirror().await, ""))).await;
    proxy.plane.workers()[0].fill(2);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.status, 200);
        kept.push(client);
    }
    assert_eq!(proxy.connect().await.rest().await, "");
    assert_eq!(proxy.shared.metrics.connections_refused.get(), 1);
    // One goes, and there is room for one.
    drop(kept.pop());
    let room = async {
        while proxy.shared.metrics.connections.get() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), room)
        .await
        .unwrap();
    assert_eq!(proxy.get("/", "").await.status, 200);
}
