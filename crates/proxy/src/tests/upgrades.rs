//! WebSocket and other upgrades, byte by byte.

use std::sync::Arc;
use std::time::Duration;

use super::support::*;
use crate::Snapshot;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Agrees, then sends back whatever comes.
async fn echo() -> std::net::SocketAddr {
    upstream(|mut client, _| async move {
        client.until("\r\n\r\n").await;
        client.send(AGREED).await;
        let (mut read, mut write) = client.stream.split();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut write, &client.read).await;
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

#[tokio::test]
async fn a_websocket_passes_and_survives_a_reload() {
    let config = settings("", &public(echo().await, "    allow_websockets: true\n"));
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.connect().await;
    client.send(UPGRADE).await;
    let (status, head) = client.head().await;
    assert_eq!(status, 101);
    assert!(
        head.to_ascii_lowercase()
            .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    client.send("one").await;
    client.until("one").await;
    for _ in 0..100 {
        let next = Snapshot::build(&config, Some(&proxy.plane.snapshot())).unwrap();
        proxy.plane.reload(Arc::new(next)).unwrap();
    }
    client.send("two").await;
    client.until("two").await;
    assert_eq!(proxy.shared.metrics.tunnels.get(), 1);
    drop(client);
    let line = proxy.line(1).await;
    assert_eq!((&line["response-code"], &line["size"]), (&101.into(), &6.into()));
}

/// HTTP/2 has no word for it: the upgrade has a connection of its own.
#[tokio::test]
async fn an_upgrade_passes_where_http2_is_usual() {
    let upstream = upstream(|mut client, _| async move {
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with(b"GET /ws HTTP/1.1\r\n"), "{head:?}");
        client.send(&AGREED.replace("websocket", "spdy/3.1")).await;
        client.until("one").await;
        client.send("two").await;
    })
    .await;
    let routes = public(upstream, "    allow_upgrades: [spdy/3.1]\n").replace("to: http:", "to: h2c:");
    let proxy = Proxy::start(&settings("", &routes)).await;
    let mut client = proxy.connect().await;
    client.send(&UPGRADE.replace("websocket", "SPDY/3.1")).await;
    assert_eq!(client.head().await.0, 101);
    client.send("one").await;
    client.until("two").await;
}

#[tokio::test]
async fn an_upgrade_that_is_not_allowed_is_403_and_the_connection_ends() {
    let proxy = Proxy::start(&settings("", &public(nobody().await, ""))).await;
    let mut client = proxy.connect().await;
    client.send(UPGRADE).await;
    let reply = client.rest().await;
    assert!(reply.starts_with("HTTP/1.1 403"), "{reply}");
    assert_eq!(proxy.line(1).await["response-code-details"], "upgrade_failed");
}

#[tokio::test]
async fn bytes_before_the_switch_wait_for_it() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut client, _| {
        let (mut wait, told) = (wait.clone(), told.clone());
        async move {
            client.until("\r\n\r\n").await;
            let mut early = [0; 16];
            let early = client.stream.try_read(&mut early);
            told.send(early.is_err() && client.read.is_empty()).unwrap();
            wait.wait_for(|go| *go).await.unwrap();
            client.send(AGREED).await;
            client.until("early").await;
            client.send("got it").await;
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, "    allow_websockets: true\n"))).await;
    let mut client = proxy.connect().await;
    client.send(&format!("{UPGRADE}early")).await;
    assert!(
        seen.recv().await.unwrap(),
        "nothing but the request head arrives before the switch"
    );
    go.send(true).unwrap();
    client.until("got it").await;
}

#[tokio::test]
async fn bytes_behind_a_declined_upgrade_are_the_next_request_and_are_judged() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, "    allow_websockets: true\n"))).await;
    let mut client = proxy.connect().await;
    client
        .send(&format!(
            "{UPGRADE}GET /a%2fb HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
        ))
        .await;
    let first = client.answer().await;
    assert_eq!(first.status, 200);
    assert!(
        first.text().starts_with("GET /ws HTTP/1.1") && !first.text().contains("%2f"),
        "{}",
        first.text()
    );
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test]
async fn an_upstream_may_only_switch_to_what_was_asked_for() {
    let upstream = upstream(|mut client, _| async move {
        client.until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            .await;
        client.rest().await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, "    allow_websockets: true\n"))).await;
    let mut client = proxy.connect().await;
    client.send(UPGRADE).await;
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn h2c_is_not_an_upgrade_and_a_body_is_refused() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, "    allow_websockets: true\n"))).await;
    let answer = proxy
        .get(
            "/x",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        )
        .await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text().to_ascii_lowercase().contains("h2c"));
    let answer = proxy
        .get(
            "/x",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
        )
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_tunnel_outlives_the_drain_until_the_stop() {
    let proxy = Proxy::start(&settings(
        "",
        &public(echo().await, "    allow_websockets: true\n"),
    ))
    .await;
    let mut client = proxy.connect().await;
    client.send(UPGRADE).await;
    assert_eq!(client.head().await.0, 101);
    client.send("one").await;
    client.until("one").await;
    assert!(!proxy.plane.drain(Duration::from_millis(50)).await);
    client.send("two").await;
    client.until("two").await;
    proxy.plane.stop();
    assert_eq!(client.rest().await, "");
}
