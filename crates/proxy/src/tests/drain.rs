//! Reload and stop with connections open.

use std::sync::Arc;
use std::time::Duration;

use super::support::*;
use crate::Snapshot;

#[tokio::test]
async fn a_reload_counts_for_the_next_request_of_an_open_connection() {
    let (one, two) = (mirror().await, mirror().await);
    let proxy = Proxy::start(&settings("", &public(one, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert!(
        client
            .answer()
            .await
            .text()
            .to_ascii_lowercase()
            .contains(&format!("host: {one}"))
    );
    let next = Snapshot::build(&settings("", &public(two, "")), Some(&proxy.plane.snapshot())).unwrap();
    proxy.plane.reload(Arc::new(next)).unwrap();
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert!(
        client
            .answer()
            .await
            .text()
            .to_ascii_lowercase()
            .contains(&format!("host: {two}"))
    );
    assert_eq!(proxy.shared.metrics.reloads.get(), 1);
}

#[tokio::test]
async fn upstream_connections_of_untouched_routes_live_through_a_thousand_reloads() {
    let upstream = mirror().await;
    let config = settings("", &public(upstream, ""));
    let proxy = Proxy::start(&config).await;
    for _ in 0..1000 {
        let next = Snapshot::build(&config, Some(&proxy.plane.snapshot())).unwrap();
        proxy.plane.reload(Arc::new(next)).unwrap();
    }
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client
            .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
            .await;
        assert!(client.answer().await.text().ends_with("\n#0"));
        let next = Snapshot::build(&config, Some(&proxy.plane.snapshot())).unwrap();
        proxy.plane.reload(Arc::new(next)).unwrap();
    }
}

#[tokio::test]
async fn a_running_request_ends_with_the_route_it_began_with() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut client, _| {
        let (mut wait, told) = (wait.clone(), told.clone());
        async move {
            read_request(&mut client).await;
            told.send(()).unwrap();
            wait.wait_for(|go| *go).await.unwrap();
            client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    asked.recv().await.unwrap();
    let other = settings(
        "",
        "  - from: https://other.example.com\n    response: {status: 200, body: x}\n    allow_public_unauthenticated_access: true\n",
    );
    proxy
        .plane
        .reload(Arc::new(Snapshot::build(&other, None).unwrap()))
        .unwrap();
    go.send(true).unwrap();
    assert_eq!(client.answer().await.text(), "ok");
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 404);
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut client, _| {
        let (mut wait, told) = (wait.clone(), told.clone());
        async move {
            read_request(&mut client).await;
            told.send(()).unwrap();
            wait.wait_for(|go| *go).await.unwrap();
            client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let proxy = Arc::new(Proxy::start(&settings("", &public(upstream, ""))).await);
    let mut idle = proxy.connect().await;
    let mut busy = proxy.connect().await;
    busy.send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n").await;
    asked.recv().await.unwrap();
    let draining = tokio::spawn({
        let proxy = proxy.clone();
        async move { proxy.plane.drain(Duration::from_secs(10)).await }
    });
    assert_eq!(idle.rest().await, "", "an idle connection is closed");
    go.send(true).unwrap();
    let answer = busy.answer().await;
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert!(draining.await.unwrap());
    let closed = async {
        while tokio::net::TcpStream::connect(proxy.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .expect("the listener closes");
}

#[tokio::test]
async fn a_grace_that_runs_out_says_so_and_stop_cuts() {
    let upstream = upstream(|mut client, _| async move {
        client.rest().await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let mut busy = proxy.connect().await;
    busy.send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n").await;
    while proxy.shared.metrics.active_requests.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!proxy.plane.drain(Duration::from_millis(50)).await);
    proxy.plane.stop();
    assert_eq!(busy.rest().await, "");
}
