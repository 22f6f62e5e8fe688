//! Several hosts, limits, and what is sent again: over real sockets, inside this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pomerium_certs::CertStore;
use tokio::net::TcpListener;

use super::support::*;
use crate::Snapshot;
use crate::upstream::Upstreams;

/// A route to several destinations.
fn to(destinations: &[String], more: &str) -> String {
    let list = destinations.join(", ");
    format!(
        "  - from: https://app.example.com\n    to: [{list}]\n    allow_public_unauthenticated_access: true\n{more}"
    )
}

/// An upstream that says its name.
async fn named(name: &'static str) -> String {
    let address = upstream(move |mut client, _| async move {
        loop {
            read_request(&mut client).await;
            client
                .send(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                    name.len()
                ))
                .await;
        }
    })
    .await;
    format!("http://{address}")
}

async fn names(proxy: &Proxy, count: usize, headers: &str) -> String {
    let mut names = String::new();
    for _ in 0..count {
        let answer = proxy.get("/", headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        names.push_str(&answer.text());
    }
    names
}

#[tokio::test]
async fn destinations_take_turns_by_weight() {
    let (a, b) = (named("a").await, named("b").await);
    let proxy = Proxy::start(&settings(
        "",
        &to(&[format!("\"{a},2\""), format!("\"{b},1\"")], ""),
    ))
    .await;
    assert_eq!(names(&proxy, 6, "").await, "abaaba");
}

#[tokio::test]
async fn a_session_stays_with_its_host_and_the_host_is_told_the_key() {
    let records: Vec<_> = (0..16)
        .flat_map(|n| session(&format!("s{n}"), "user@example.com"))
        .collect();
    for policy in ["ring_hash", "maglev"] {
        let (a, b) = (named("a").await, named("b").await);
        let options = format!("    load_balancing_policy: {policy}\n");
        let proxy = Proxy::with(
            &settings("", &to(&[a, b], &options)),
            records.clone(),
            CertStore::new(vec![]),
        )
        .await;
        let mut seen = Vec::new();
        for session in 0..16 {
            let headers = format!("Cookie: {}\r\n", cookie(&format!("s{session}")));
            let names = names(&proxy, 3, &headers).await;
            assert!(names == "aaa" || names == "bbb", "{policy}: {names}");
            seen.push(names);
        }
        assert!(
            seen.contains(&"aaa".into()) && seen.contains(&"bbb".into()),
            "{policy}: {seen:?}"
        );
        let nobody = names(&proxy, 4, "").await;
        assert!(
            nobody == "aaaa" || nobody == "bbbb",
            "{policy}: by address: {nobody}"
        );
    }
    let options = "    load_balancing_policy: maglev\n";
    let told = format!("http://{}", mirror().await);
    let proxy = Proxy::with(
        &settings("", &to(&[told], options)),
        records,
        CertStore::new(vec![]),
    )
    .await;
    let headers = format!("Cookie: {}\r\nX-Pomerium-Routing-Key: spoof\r\n", cookie("s1"));
    let seen = proxy.get("/", &headers).await.text().to_ascii_lowercase();
    // printf s1 | sha256sum
    let key = "x-pomerium-routing-key: e8bc163c82eee18733288c7d4ac636db3a6deb013ef2d37b68322be20edc45cc";
    assert_eq!(seen.matches("x-pomerium-routing-key: ").count(), 1, "{seen}");
    assert!(!seen.contains("spoof") && seen.contains(key), "{seen}");
}

/// Also when it was another route's a moment ago.
#[tokio::test]
async fn services_at_google_are_looked_up_by_ipv4_whatever_the_others_are() {
    let family = "dns_lookup_family: V6_ONLY";
    let route = |more: &str| to(&["http://localhost:1".into()], more);
    let plain = settings(family, &route(""));
    let google = settings(
        family,
        &route("    enable_google_cloud_serverless_authentication: true\n"),
    );
    let proxy = Proxy::start(&plain).await;
    let mut snapshot = proxy.plane.snapshot();
    for (config, address) in [(&plain, "::1"), (&google, "127.0.0.1"), (&plain, "::1")] {
        snapshot = Arc::new(Snapshot::build(config, Some(&snapshot)).unwrap());
        let cluster = snapshot.clusters().next().unwrap();
        let runtime = tokio::runtime::Handle::current();
        let upstreams = Upstreams::new(runtime, proxy.shared.metrics.clone(), &snapshot.upstreams);
        cluster.resolve(&upstreams).await.unwrap();
        let hosts = cluster.hosts();
        let found: Vec<_> = hosts.iter().flat_map(|host| host.addresses.to_vec()).collect();
        assert_eq!(found, [address.parse::<std::net::IpAddr>().unwrap()]);
    }
}

#[tokio::test]
async fn unhealthy_hosts_are_left_out_until_too_many_are() {
    let (a, b) = (named("a").await, named("b").await);
    let config = settings("", &to(&[a, b], "    healthy_panic_threshold: 40\n"));
    let proxy = Proxy::start(&config).await;
    assert_eq!(names(&proxy, 2, "").await, "ab");
    let snapshot = proxy.plane.snapshot();
    let cluster = snapshot.clusters().next().unwrap().clone();
    let mut changes = cluster.changes();
    cluster.hosts()[0].set_active(false);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(names(&proxy, 4, "").await, "bbbb");
    // Health stays over a reload that does not concern it, and hosts are the same objects.
    let next = Snapshot::build(&config, Some(&snapshot)).unwrap();
    assert!(Arc::ptr_eq(next.clusters().next().unwrap(), &cluster));
    proxy.plane.reload(Arc::new(next)).unwrap();
    assert_eq!(names(&proxy, 2, "").await, "bb");
    cluster.hosts()[1].set_ejected(true);
    let mut both = names(&proxy, 2, "").await.into_bytes();
    both.sort_unstable();
    assert_eq!(both, b"ab", "nobody is healthy: everybody is asked");
    cluster.hosts()[0].set_active(true);
    assert_eq!(names(&proxy, 2, "").await, "aa");
}

#[tokio::test]
async fn without_panic_nobody_healthy_is_503() {
    let config = settings("", &to(&[named("a").await], "    healthy_panic_threshold: 0\n"));
    let proxy = Proxy::start(&config).await;
    assert_eq!(names(&proxy, 1, "").await, "a");
    let cluster = proxy.plane.snapshot().clusters().next().unwrap().clone();
    cluster.hosts()[0].set_active(false);
    assert_eq!(proxy.get("/", "").await.status, 503);
    assert_eq!(
        proxy.line(2).await["response-code-details"],
        "no_healthy_upstream"
    );
}

#[tokio::test]
async fn the_tasks_of_a_cluster_end_with_it() {
    let config = settings("", &to(&[named("a").await], ""));
    let proxy = Proxy::start(&config).await;
    assert_eq!(names(&proxy, 1, "").await, "a");
    let ended = proxy.plane.snapshot().clusters().next().unwrap().ended();
    let other = settings("", &to(&[named("b").await], ""));
    let next = Snapshot::build(&other, Some(&proxy.plane.snapshot())).unwrap();
    proxy.plane.reload(Arc::new(next)).unwrap();
    assert_eq!(names(&proxy, 1, "").await, "b");
    tokio::time::timeout(std::time::Duration::from_secs(30), ended.cancelled())
        .await
        .unwrap();
}

/// An idle connection ends with the last route to its host, not with its idle time: a thousand reloads would leave
/// thousands of them.
#[tokio::test]
async fn the_connections_of_a_cluster_end_with_it() {
    let (closed, mut told) = tokio::sync::mpsc::unbounded_channel();
    let address = upstream(move |mut client, _| {
        let closed = closed.clone();
        async move {
            read_request(&mut client).await;
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").await;
            client.rest().await;
            closed.send(()).unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &to(&[format!("http://{address}")], ""))).await;
    assert_eq!(names(&proxy, 1, "").await, "a");
    let other = settings("", &to(&[named("b").await], ""));
    // Twice: a connection of a client keeps the snapshot of its last request until it has ended.
    for _ in 0..2 {
        let next = Snapshot::build(&other, Some(&proxy.plane.snapshot())).unwrap();
        proxy.plane.reload(Arc::new(next)).unwrap();
        assert_eq!(names(&proxy, 1, "").await, "b");
    }
    tokio::time::timeout(std::time::Duration::from_secs(10), told.recv())
        .await
        .unwrap();
}

/// What an HTTP/2 upstream does with its n-th request, counted over all connections.
type Script = fn(usize, h2::server::SendResponse<Bytes>);

async fn h2_upstream(streams: u32, script: Script) -> (String, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (connections.clone(), requests.clone());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                let mut connection = builder
                    .max_concurrent_streams(streams)
                    .handshake(socket)
                    .await
                    .unwrap();
                while let Some(Ok((_request, respond))) = connection.accept().await {
                    script(requests.fetch_add(1, Ordering::SeqCst), respond);
                }
            });
        }
    });
    (format!("h2c://{address}"), counters.0, counters.1)
}

fn ok(mut respond: h2::server::SendResponse<Bytes>) {
    let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_but_never_a_body() {
    let (to_, _, requests) = h2_upstream(100, |nth, mut respond| {
        if nth % 2 == 0 {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        } else {
            ok(respond);
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &to(&[to_], ""))).await;
    assert_eq!(proxy.get("/", "").await.status, 200);
    assert_eq!(requests.load(Ordering::SeqCst), 2);
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    assert_eq!(client.answer().await.status, 503);
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

/// Reads frames until one of `kind` came.
async fn until_frame(socket: &mut tokio::net::TcpStream, kind: u8) {
    use tokio::io::AsyncReadExt;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
        tokio::io::copy(&mut (&mut *socket).take(length), &mut tokio::io::sink())
            .await
            .unwrap();
        if head[3] == kind {
            return;
        }
    }
}

#[tokio::test]
async fn a_request_behind_a_goaway_is_sent_again_elsewhere() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // No stream was processed.
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to_ = format!("h2c://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        first.write_all(&SETTINGS).await.unwrap();
        let mut preface = [0; 24];
        first.read_exact(&mut preface).await.unwrap();
        until_frame(&mut first, HEADERS).await;
        first.write_all(&GOAWAY).await.unwrap();
        let (second, _) = listener.accept().await.unwrap();
        let mut second = h2::server::handshake(second).await.unwrap();
        while let Some(Ok((_, respond))) = second.accept().await {
            ok(respond);
        }
    });
    let proxy = Proxy::start(&settings("", &to(&[to_], ""))).await;
    let answer = proxy.get("/", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[tokio::test]
async fn a_reset_stream_is_not_sent_again() {
    let (to_, _, requests) = h2_upstream(100, |_, mut respond| {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    })
    .await;
    let proxy = Proxy::start(&settings("", &to(&[to_], ""))).await;
    assert_eq!(proxy.get("/", "").await.status, 503);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    assert_eq!(
        proxy.line(1).await["response-code-details"],
        "upstream_reset_before_response_started{remote_reset}"
    );
}

#[tokio::test]
async fn an_upstream_that_refuses_everything_is_not_asked_for_ever() {
    let (to_, _, requests) = h2_upstream(100, |_, mut respond| {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    })
    .await;
    let proxy = Proxy::start(&settings("", &to(&[to_], ""))).await;
    assert_eq!(proxy.get("/", "").await.status, 503);
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn more_streams_than_the_upstream_allows_take_more_connections() {
    let (to_, connections, _) = h2_upstream(2, |_, respond| {
        // Answered when all five are there.
        static WAITING: parking_lot::Mutex<Vec<h2::server::SendResponse<Bytes>>> =
            parking_lot::Mutex::new(Vec::new());
        let mut waiting = WAITING.lock();
        waiting.push(respond);
        if waiting.len() == 5 {
            waiting.drain(..).for_each(ok);
        }
    })
    .await;
    let proxy = Proxy::start(&settings("", &to(&[to_], ""))).await;
    let asked = futures_util::future::join_all((0..5).map(|_| proxy.get("/", ""))).await;
    assert!(asked.iter().all(|answer| answer.status == 200));
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn slow_readers_do_not_hold_up_others_on_the_same_connection() {
    let (to_, connections, _) = h2_upstream(100, |nth, mut respond| {
        if nth >= 40 {
            return ok(respond);
        }
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        // Far more than the windows: the rest waits in the upstream for ever.
        stream.send_data(Bytes::from(vec![0; 1 << 20]), true).unwrap();
    })
    .await;
    let proxy = Proxy::start(&settings("", &to(&[to_], ""))).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut client = proxy.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
            .await;
        assert_eq!(client.head().await.0, 200);
        slow.push(client);
    }
    let quick = tokio::time::timeout(std::time::Duration::from_secs(20), proxy.get("/", ""));
    assert_eq!(quick.await.unwrap().text(), "ok");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced() {
    let address = upstream(|mut client, _| async move {
        read_request(&mut client).await;
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").await;
        // Closed without a word.
    })
    .await;
    let proxy = Proxy::start(&settings("", &public(address, ""))).await;
    for _ in 0..5 {
        assert_eq!(proxy.get("/", "").await.status, 200);
    }
}

/// The same over HTTP/2, with a body, which could not be sent a second time.
#[tokio::test]
async fn a_shared_connection_that_was_closed_is_replaced() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const DATA: u8 = 0;
    // HEADERS with END_STREAM and END_HEADERS on stream 1: `:status: 200`.
    const OK: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to_ = format!("h2c://{}", listener.local_addr().unwrap());
    let (closed, mut ended) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.write_all(&SETTINGS).await.unwrap();
            socket.read_exact(&mut [0; 24]).await.unwrap();
            until_frame(&mut socket, DATA).await;
            socket.write_all(&OK).await.unwrap();
            // It goes without a word.
            drop(socket);
            closed.send(()).await.unwrap();
        }
    });
    let proxy = Proxy::start(&settings("", &to(&[to_], ""))).await;
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        client
            .send("POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        assert_eq!(client.answer().await.status, 200);
        ended.recv().await.unwrap();
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_host_that_is_down_is_passed_over_while_retries_are_allowed() {
    let (down, up) = (format!("http://{}", nobody().await), named("up").await);
    let both = [down, up];
    let proxy = Proxy::start(&settings("", &to(&both, ""))).await;
    assert_eq!(names(&proxy, 4, "").await, "upupupup");
    let none = "    circuit_breaker_thresholds: {max_retries: 0}\n";
    let proxy = Proxy::start(&settings("", &to(&both, none))).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(proxy.get("/", "").await.status);
    }
    assert_eq!(statuses, [503, 200, 503, 200]);
}
