//! What the limits of a route with several hosts do, and what they must not do.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::support::*;

fn to(destinations: &[String], limits: &str) -> String {
    let list = destinations.join(", ");
    format!(
        "  - from: https://app.example.com\n    to: [{list}]\n    allow_public_unauthenticated_access: true\n    \
         circuit_breaker_thresholds: {{{limits}}}\n"
    )
}

/// An upstream that says its name. `/slow` is told to the test, and answered when the test allows it.
async fn named(name: &'static str, came: mpsc::UnboundedSender<()>, allowed: Arc<Semaphore>) -> String {
    let address = upstream(move |mut client, _| {
        let (came, allowed) = (came.clone(), allowed.clone());
        async move {
            loop {
                let request = read_request(&mut client).await;
                if request.starts_with("GET /slow") {
                    came.send(()).unwrap();
                    allowed.acquire().await.unwrap().forget();
                }
                let length = name.len();
                client
                    .send(&format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"
                    ))
                    .await;
            }
        }
    })
    .await;
    format!("http://{address}")
}

/// One request over and over, on a connection of its own.
async fn ask(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.connect().await;
    client
        .send(&format!("GET {path} HTTP/1.1\r\nHost: app.example.com\r\n\r\n"))
        .await;
    client
}

#[tokio::test]
async fn a_host_that_is_free_serves_while_others_wait_for_a_busy_one() {
    let (came, mut slow) = mpsc::unbounded_channel();
    let allowed = Arc::new(Semaphore::new(0));
    let (a, b) = (
        named("a", came.clone(), allowed.clone()).await,
        named("b", came, allowed.clone()).await,
    );
    let proxy = Proxy::start(&settings("", &to(&[a, b], "max_connections: 1"))).await;
    let mut busy = ask(&proxy, "/slow").await;
    slow.recv().await.unwrap();
    assert_eq!(proxy.get("/", "").await.text(), "b");
    // By turns: of two, one goes to the busy host and waits there.
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let (mut one, mut other) = (ask(&proxy, "/").await, ask(&proxy, "/").await);
        let (answer, is_one) = match select(pin!(one.answer()), pin!(other.answer())).await {
            Either::Left((answer, _)) => (answer, true),
            Either::Right((answer, _)) => (answer, false),
        };
        assert_eq!(answer.text(), "b");
        waiting.push(if is_one { other } else { one });
    }
    allowed.add_permits(1);
    assert_eq!(busy.answer().await.text(), "a");
    for mut client in waiting {
        assert_eq!(client.answer().await.text(), "a");
    }
}

/// Whatever the order in which things come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_more_requests_than_connections_are_all_answered() {
    let (came, _slow) = mpsc::unbounded_channel();
    let allowed = Arc::new(Semaphore::new(0));
    let mut hosts = Vec::new();
    for name in ["a", "b", "c"] {
        hosts.push(named(name, came.clone(), allowed.clone()).await);
    }
    let limits = "max_connections: 4, max_pending_requests: 1000";
    let proxy = Proxy::start(&settings("", &to(&hosts, limits))).await;
    let rounds = join_all((0..60).map(|number| {
        let proxy = &proxy;
        async move {
            for round in 0..20 {
                if (number + round) % 7 == 0 {
                    // Somebody goes away, waiting or served.
                    drop(ask(proxy, "/").await);
                } else {
                    assert_eq!(proxy.get("/", "").await.status, 200);
                }
            }
        }
    }));
    tokio::time::timeout(std::time::Duration::from_secs(60), rounds)
        .await
        .unwrap();
}

/// Streams end without an answer as well: their room is others' to use.
#[tokio::test]
async fn a_stream_that_is_given_up_makes_room_for_those_who_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to_ = format!("h2c://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let (counted, came) = (requests.clone(), Arc::new(Notify::new()));
    let told = came.clone();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut builder = h2::server::Builder::new();
        let connection = builder.max_concurrent_streams(1).handshake(socket).await;
        let mut connection = connection.unwrap();
        let mut held = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                // The first is never answered.
                held.push(respond);
                told.notify_one();
            } else {
                let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
            }
        }
    });
    let proxy = Proxy::start(&settings("", &to(&[to_], "max_connections: 1"))).await;
    let given_up = ask(&proxy, "/").await;
    came.notified().await;
    let mut waiting = vec![ask(&proxy, "/").await, ask(&proxy, "/").await];
    drop(given_up);
    for client in &mut waiting {
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

/// A request that is tried on one host after the other is one that is tried again.
#[tokio::test]
async fn one_retry_at_a_time_is_enough_to_pass_over_all_hosts_that_are_down() {
    let (came, _slow) = mpsc::unbounded_channel();
    let up = named("up", came, Arc::new(Semaphore::new(0))).await;
    let mut hosts = vec![up];
    for _ in 0..3 {
        hosts.push(format!("http://{}", nobody().await));
    }
    let proxy = Proxy::start(&settings("", &to(&hosts, "max_retries: 1"))).await;
    for _ in 0..8 {
        assert_eq!(proxy.get("/", "").await.text(), "up");
    }
}

/// Lines folded as of old (RFC 9112 5.2) reach the client on one line.
#[tokio::test]
async fn a_folded_header_line_of_an_answer_is_unfolded() {
    let address = upstream(|mut client, _| async move {
        read_request(&mut client).await;
        client
            .send("HTTP/1.1 200 OK\r\nX-Long: one,\r\n two,\r\n\tthree\r\nContent-Length:\r\n 2\r\n\r\nok")
            .await;
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(address, ""))).await;
    let answer = proxy.get("/", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let value = answer.header("x-long").unwrap();
    let words: Vec<_> = value.split_whitespace().collect();
    assert_eq!(words, ["one,", "two,", "three"], "{}", answer.head);
    let length = answer
        .head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("content-length"));
    assert!(length.unwrap().ends_with(": 2"), "{}", answer.head);
}
