//! HTTP/3, with a client of another library than the server's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use http::{Request, Response};
use pomerium_config::settings::{Codec, Settings};
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;

use super::support::*;
use crate::Snapshot;
use crate::upstream::unverified_client_config;

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

const REQUEST_REJECTED: u32 = 0x10b;

fn config(extra: &str, routes: &str) -> Settings {
    let mut config = settings(extra, routes);
    config.listener.insecure = false;
    config.listener.codec = Codec::Http3;
    config
}

async fn start(config: &Settings) -> Proxy {
    let certificates = generated_certificate();
    Proxy::with(config, Vec::new(), certificates).await
}

async fn proxy(routes: &str) -> Proxy {
    start(&config("", routes)).await
}

fn endpoint(from: &str) -> quinn::Endpoint {
    let crypto = QuicClientConfig::try_from(unverified_client_config(b"h3").unwrap()).unwrap();
    let mut endpoint = quinn::Endpoint::client(from.parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

struct Client3 {
    endpoint: quinn::Endpoint,
    quic: quinn::Connection,
    requests: SendRequest<h3_quinn::OpenStreams, Bytes>,
    driver: tokio::task::JoinHandle<h3::error::ConnectionError>,
}

impl Client3 {
    async fn connect(to: SocketAddr) -> Self {
        let endpoint = endpoint("127.0.0.1:0");
        let quic = endpoint.connect(to, "app.example.com").unwrap().await.unwrap();
        let (mut connection, requests) = h3::client::new(h3_quinn::Connection::new(quic.clone()))
            .await
            .unwrap();
        let driver = tokio::spawn(async move { std::future::poll_fn(|cx| connection.poll_close(cx)).await });
        Self {
            endpoint,
            quic,
            requests,
            driver,
        }
    }

    async fn to(proxy: &Proxy) -> Self {
        Self::connect(proxy.plane.http3_addr().unwrap()).await
    }

    async fn begin(&mut self, method: &str, path: &str) -> Stream {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://app.example.com{path}"))
            .body(())
            .unwrap();
        self.requests.send_request(request).await.unwrap()
    }

    async fn get(&mut self, path: &str) -> (Response<()>, Vec<u8>) {
        let mut stream = self.begin("GET", path).await;
        stream.finish().await.unwrap();
        let response = stream.recv_response().await.unwrap();
        let body = rest(&mut stream).await.unwrap();
        (response, body)
    }
}

async fn rest(stream: &mut Stream) -> Result<Vec<u8>, h3::error::StreamError> {
    let mut body = Vec::new();
    while let Some(mut piece) = stream.recv_data().await? {
        body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    Ok(body)
}

#[tokio::test]
async fn a_request_and_what_tcp_says_about_http3() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    let (response, body) = client.get("/a/../b?c=d").await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("alt-svc"));
    assert!(response.headers().contains_key("x-request-id"));
    assert!(response.headers().contains_key("date"));
    let seen = String::from_utf8(body).unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("get /b?c=d http/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
    assert!(!seen.contains("transfer-encoding"), "{seen}");
    let line = proxy.line(1).await;
    assert_eq!(line["response-code"], 200);
    assert_eq!(proxy.shared.metrics.connections.get(), 1);

    let port = proxy.plane.http3_addr().unwrap().port();
    assert_eq!(port, proxy.addr.port());
    let over_tcp = super::tls::get(&proxy, "/").await;
    assert_eq!(over_tcp.headers()["alt-svc"], format!("h3=\":{port}\"; ma=86400"));
}

#[tokio::test]
async fn bodies_stream_both_ways_and_arrive_whole() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "    timeout: 60s\n")).await;
    let mut client = Client3::to(&proxy).await;
    let mut stream = client.begin("POST", "/").await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    for piece in sent.chunks(100_000) {
        stream.send_data(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    stream.finish().await.unwrap();
    let response = stream.recv_response().await.unwrap();
    assert_eq!(response.status(), 200);
    let body = rest(&mut stream).await.unwrap();
    let start = body.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(body[start..].starts_with(&sent));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = super::tls::h2_upstream().await;
    let routes = format!(
        "  - from: https://app.example.com\n    to: h2c://{upstream}\n    allow_public_unauthenticated_access: true\n"
    );
    let proxy = proxy(&routes).await;
    let mut client = Client3::to(&proxy).await;
    let request = Request::post("https://app.example.com/grpc.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut stream = client.requests.send_request(request).await.unwrap();
    stream.send_data(Bytes::from_static(b"message")).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    assert_eq!(rest(&mut stream).await.unwrap(), b"message");
    let trailers = stream.recv_trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["saw-te"], "trailers");
}

#[tokio::test]
async fn many_requests_at_once() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let client = Client3::to(&proxy).await;
    let requests = (0..300).map(|number| {
        let mut sender = client.requests.clone();
        async move {
            let uri = format!("https://app.example.com/{number}");
            let mut stream = sender
                .send_request(Request::get(uri).body(()).unwrap())
                .await
                .unwrap();
            stream.finish().await.unwrap();
            assert_eq!(stream.recv_response().await.unwrap().status(), 200);
            let body = rest(&mut stream).await.unwrap();
            assert!(body.starts_with(format!("GET /{number} ").as_bytes()));
        }
    });
    futures_util::future::join_all(requests).await;
}

#[tokio::test]
async fn a_head_answer_has_no_body_and_an_own_answer_is_whole() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    let mut stream = client.begin("HEAD", "/none").await;
    stream.finish().await.unwrap();
    let response = stream.recv_response().await.unwrap();
    assert!(response.headers().contains_key("content-length"));
    assert!(rest(&mut stream).await.unwrap().is_empty());
    let request = Request::get("https://unknown.example.com/").body(()).unwrap();
    let mut stream = client.requests.send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 404);
    assert!(!rest(&mut stream).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_reset_and_not_ended() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let upstream = upstream(move |mut client, _| {
        let mut wait = wait.clone();
        async move {
            read_request(&mut client).await;
            client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                .await;
            wait.wait_for(|go| *go).await.unwrap();
        }
    })
    .await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    let mut stream = client.begin("GET", "/").await;
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    go.send(true).unwrap();
    let error = rest(&mut stream).await.unwrap_err();
    assert!(format!("{error:?}").contains("H3_INTERNAL_ERROR"), "{error:?}");
    assert_eq!(
        proxy.line(1).await["response-code-details"],
        "upstream_reset_after_response_started"
    );
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_its_upstream() {
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
    let proxy = proxy(&public(upstream, "")).await;
    let client = Client3::to(&proxy).await;
    let (mut send, mut receive) = client.quic.open_bi().await.unwrap();
    send.write_all(&get_frame("app.example.com")).await.unwrap();
    send.finish().unwrap();
    assert_eq!(gone.recv().await, Some("asked"));
    receive.stop(VarInt::from_u32(0x10c)).unwrap();
    assert_eq!(gone.recv().await, Some("gone"));
    assert_eq!(
        proxy.line(1).await["response-code-details"],
        "downstream_remote_disconnect"
    );
}

/// A header frame of a GET.
fn get_frame(host: &str) -> Vec<u8> {
    let mut section = vec![0, 0, 0xd1, 0xd7, 0xc1, 0x50, u8::try_from(host.len()).unwrap()];
    section.extend_from_slice(host.as_bytes());
    let mut frame = vec![1, u8::try_from(section.len()).unwrap()];
    frame.extend(section);
    frame
}

#[tokio::test]
async fn a_client_keeps_its_connection_over_a_new_port() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    client.get("/before").await;
    let before = client.endpoint.local_addr().unwrap();
    client
        .endpoint
        .rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
        .unwrap();
    assert_ne!(client.endpoint.local_addr().unwrap(), before);
    let (response, _) = client.get("/after").await;
    assert_eq!(response.status(), 200);
    assert_eq!(proxy.shared.metrics.connections_total.get(), 1);
}

#[tokio::test]
async fn a_client_at_another_address_finishes_what_runs_and_begins_nothing() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut client, _| {
        let (mut wait, told) = (wait.clone(), told.clone());
        async move {
            let seen = read_request(&mut client).await;
            told.send(seen).unwrap();
            client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                .await;
            wait.wait_for(|go| *go).await.unwrap();
            client.send(&"x".repeat(100_000)).await;
        }
    })
    .await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    let mut running = client.begin("GET", "/running").await;
    running.finish().await.unwrap();
    running.recv_response().await.unwrap();
    asked.recv().await.unwrap();
    client
        .endpoint
        .rebind(std::net::UdpSocket::bind("127.0.0.2:0").unwrap())
        .unwrap();
    // The new address is not proven to us: the request is refused as one that was not begun.
    let (mut send, mut receive) = client.quic.open_bi().await.unwrap();
    send.write_all(&get_frame("app.example.com")).await.unwrap();
    send.finish().unwrap();
    let refused = receive.read_to_end(1000).await.unwrap_err();
    assert!(
        format!("{refused:?}").contains(&format!("Reset({REQUEST_REJECTED})")),
        "{refused:?}"
    );
    go.send(true).unwrap();
    assert_eq!(rest(&mut running).await.unwrap().len(), 100_000);
    assert!(asked.try_recv().is_err());
    // Nothing runs any more: the connection ends in order.
    let ended = client.quic.closed().await;
    assert!(format!("{ended:?}").contains("256"), "{ended:?}");
}

#[tokio::test]
async fn draining_finishes_what_runs_and_then_closes() {
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
    let proxy = proxy(&public(upstream, "")).await;
    let to = proxy.plane.http3_addr().unwrap();
    let mut client = Client3::to(&proxy).await;
    let mut idle = Client3::to(&proxy).await;
    let mut running = client.begin("GET", "/").await;
    running.finish().await.unwrap();
    asked.recv().await.unwrap();
    let drained = async {
        assert!(proxy.plane.drain(Duration::from_secs(20)).await);
    };
    let served = async {
        // The idle one is told to go, and goes.
        idle.quic.closed().await;
        let newcomer = endpoint("127.0.0.1:0");
        assert!(newcomer.connect(to, "app.example.com").unwrap().await.is_err());
        go.send(true).unwrap();
        assert_eq!(running.recv_response().await.unwrap().status(), 200);
        assert_eq!(rest(&mut running).await.unwrap(), b"ok");
        let ended = client.driver.await.unwrap();
        assert!(format!("{ended:?}").contains("H3_NO_ERROR"), "{ended:?}");
    };
    tokio::join!(drained, served);
    assert!(
        idle.requests
            .send_request(Request::get("https://app.example.com/").body(()).unwrap())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn http3_can_be_switched_on_and_off_while_running() {
    let upstream = mirror().await;
    let mut config = config("", &public(upstream, ""));
    config.listener.codec = Codec::Auto;
    let proxy = start(&config).await;
    assert!(proxy.plane.http3_addr().is_none());
    assert!(
        !super::tls::get(&proxy, "/")
            .await
            .headers()
            .contains_key("alt-svc")
    );
    config.listener.codec = Codec::Http3;
    let build = |config: &Settings| Arc::new(Snapshot::build(config, Some(&proxy.plane.snapshot())).unwrap());
    proxy.plane.reload(build(&config)).unwrap();
    let to = proxy.plane.http3_addr().unwrap();
    let mut client = Client3::connect(to).await;
    assert_eq!(client.get("/").await.0.status(), 200);
    assert!(
        super::tls::get(&proxy, "/")
            .await
            .headers()
            .contains_key("alt-svc")
    );
    config.listener.codec = Codec::Auto;
    proxy.plane.reload(build(&config)).unwrap();
    assert!(
        !super::tls::get(&proxy, "/")
            .await
            .headers()
            .contains_key("alt-svc")
    );
    // Who is there stays; who comes is turned away.
    assert_eq!(client.get("/").await.0.status(), 200);
    assert!(
        endpoint("127.0.0.1:0")
            .connect(to, "app.example.com")
            .unwrap()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn there_is_no_early_data() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let to = proxy.plane.http3_addr().unwrap();
    let mut tls = unverified_client_config(b"h3").unwrap().as_ref().clone();
    tls.enable_early_data = true;
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    for _ in 0..3 {
        let connecting = endpoint.connect(to, "app.example.com").unwrap();
        let connecting = connecting.into_0rtt().map(drop).expect_err("no early data");
        let quic = connecting.await.unwrap();
        // Until the control stream has come, the ticket has come as well.
        let mut control = quic.accept_uni().await.unwrap();
        control.read_chunk(10, true).await.unwrap();
        quic.close(VarInt::from_u32(0), b"");
    }
}

/// Opens a stream, writes `bytes`, and gives the code with which the connection ends.
async fn connection_code(proxy: &Proxy, unidirectional: bool, bytes: &[u8], end: bool) -> String {
    let quic = endpoint("127.0.0.1:0")
        .connect(proxy.plane.http3_addr().unwrap(), "app.example.com")
        .unwrap()
        .await
        .unwrap();
    let mut stream = if unidirectional {
        quic.open_uni().await.unwrap()
    } else {
        quic.open_bi().await.unwrap().0
    };
    stream.write_all(bytes).await.unwrap();
    if end {
        stream.finish().unwrap();
    }
    match quic.closed().await {
        quinn::ConnectionError::ApplicationClosed(closed) => format!("{:#x}", closed.error_code.into_inner()),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_of_a_connection_is_cut() {
    let proxy = proxy(&public(nobody().await, "")).await;
    let control: [(&[u8], &str); 12] = [
        // No settings first; two settings; a frame of requests; frames of HTTP/2.
        (&[0, 7, 1, 0], "0x10a"),
        (&[0, 4, 0, 4, 0], "0x105"),
        (&[0, 4, 0, 0, 0], "0x105"),
        (&[0, 4, 0, 6, 0], "0x105"),
        // A setting of HTTP/2, one twice, one cut short.
        (&[0, 4, 2, 2, 0], "0x109"),
        (&[0, 4, 4, 6, 0, 6, 0], "0x109"),
        (&[0, 4, 1, 6, 0], "0x106"),
        // Settings without end.
        (&[0, 4, 0xbf, 0xff, 0xff, 0xff], "0x107"),
        // A push stream; instructions for a table that is not there.
        (&[1, 0], "0x103"),
        (&[2, 0xc0, 0], "0x201"),
        (&[2, 0x3f, 0xe1, 0x1f], "0x201"),
        // What we never promised is taken back.
        (&[0, 4, 0, 3, 1, 0], "0x108"),
    ];
    for (bytes, code) in control {
        assert_eq!(
            connection_code(&proxy, true, bytes, false).await,
            code,
            "{bytes:x?}"
        );
    }
    assert_eq!(connection_code(&proxy, true, &[0, 4, 0], true).await, "0x104");
    let requests: [(&[u8], &str); 5] = [
        // A body without a head; frames of the control stream; a section that refers to a dynamic table; a frame
        // that is cut.
        (&[0, 1, 0], "0x105"),
        (&[4, 0], "0x105"),
        (&[7, 1, 0], "0x105"),
        (&[1, 3, 1, 0, 0x80], "0x200"),
        (&[1, 10, 0], "0x106"),
    ];
    for (bytes, code) in requests {
        assert_eq!(
            connection_code(&proxy, false, bytes, true).await,
            code,
            "{bytes:x?}"
        );
    }
}

#[tokio::test]
async fn a_head_without_end_is_answered_and_not_stored() {
    let proxy = proxy(&public(nobody().await, "")).await;
    let client = Client3::to(&proxy).await;
    let (mut send, mut receive) = client.quic.open_bi().await.unwrap();
    // A header frame of a gigabyte.
    send.write_all(&[1, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]).await.unwrap();
    let answer = receive.read_to_end(10_000).await.unwrap();
    assert_eq!(answer[0], 1);
    let line = proxy.line(1).await;
    assert_eq!(line["response-code"], 431);
    let stopped = send.stopped().await.unwrap();
    assert_eq!(stopped, Some(VarInt::from_u32(0x107)));
}

#[tokio::test]
async fn a_malformed_request_is_reset_and_the_connection_goes_on() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    // Two methods.
    let section = [0, 0, 0xd1, 0xd1, 0xd7, 0xc1, 0x50, 1, b'a'];
    let (mut send, mut receive) = client.quic.open_bi().await.unwrap();
    send.write_all(&[1, 9]).await.unwrap();
    send.write_all(&section).await.unwrap();
    send.finish().unwrap();
    let reset = receive.read_to_end(1000).await.unwrap_err();
    assert!(format!("{reset:?}").contains("Reset(270)"), "{reset:?}");
    // Unknown frames are read past, between heads, bodies and trailers.
    let (mut send, mut receive) = client.quic.open_bi().await.unwrap();
    send.write_all(&[0x21, 3, 1, 2, 3]).await.unwrap();
    send.write_all(&get_frame("app.example.com")).await.unwrap();
    send.write_all(&[0x40, 0xff, 1, 1, 0, 2, b'h', b'i', 0x21, 0])
        .await
        .unwrap();
    send.finish().unwrap();
    let answer = receive.read_to_end(10_000).await.unwrap();
    assert!(
        answer.windows(4).any(|window| window == b"\nhi\n"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(client.get("/").await.0.status(), 200);
}

#[tokio::test]
async fn a_body_must_be_as_long_as_it_says() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    for (announced, sent) in [("5", "four"), ("3", "four")] {
        let request = Request::post("https://app.example.com/")
            .header("content-length", announced)
            .body(())
            .unwrap();
        let mut stream = client.requests.send_request(request).await.unwrap();
        stream
            .send_data(Bytes::from_static(sent.as_bytes()))
            .await
            .unwrap();
        stream.finish().await.unwrap();
        match stream.recv_response().await {
            Ok(response) => assert_eq!(response.status(), 400),
            Err(error) => assert!(format!("{error:?}").contains("H3_MESSAGE_ERROR"), "{error:?}"),
        }
    }
}

/// What is announced and never comes must not be waited for upstream: the next request there would be taken for it.
#[tokio::test]
async fn a_request_that_ends_before_its_announced_body_goes_nowhere() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let mut client = Client3::to(&proxy).await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
        for announced in ["60", "18446744073709551616"] {
            let request = Request::builder()
                .method(method)
                .uri("https://app.example.com/first")
                .header("content-length", announced)
                .body(())
                .unwrap();
            let mut stream = client.requests.send_request(request).await.unwrap();
            stream.finish().await.unwrap();
            match stream.recv_response().await {
                Ok(response) => assert_eq!(response.status(), 400, "{method} {announced}"),
                Err(error) => assert!(format!("{error:?}").contains("H3_MESSAGE_ERROR"), "{error:?}"),
            }
            let (response, body) = client.get("/next").await;
            assert_eq!(response.status(), 200, "{method} {announced}");
            let seen = String::from_utf8(body).unwrap();
            assert!(seen.starts_with("GET /next HTTP/1.1\r\n"), "{seen}");
        }
    }
    // Nothing is announced by a length of nothing.
    let request = Request::post("https://app.example.com/").header("content-length", "0");
    let mut stream = client
        .requests
        .send_request(request.body(()).unwrap())
        .await
        .unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_gives_up_everything_is_cut() {
    let upstream = upstream(|mut client, _| async move {
        client.rest().await;
    })
    .await;
    let proxy = proxy(&public(upstream, "")).await;
    let client = Client3::to(&proxy).await;
    let attack = async {
        loop {
            let Ok((mut send, mut receive)) = client.quic.open_bi().await else {
                return;
            };
            let _ = send.write_all(&get_frame("app.example.com")).await;
            let _ = send.finish();
            tokio::task::yield_now().await;
            let _ = receive.stop(VarInt::from_u32(0x10c));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), attack)
        .await
        .unwrap();
    let closed = client.quic.closed().await;
    assert!(format!("{closed:?}").contains("263"), "{closed:?}");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_in_order() {
    let upstream = mirror().await;
    let proxy = start(&config("timeout_idle: 300ms", &public(upstream, ""))).await;
    let mut client = Client3::to(&proxy).await;
    client.get("/").await;
    let closed = client.quic.closed().await;
    let text = format!("{closed:?}");
    assert!(text.contains("256") || text.contains("TimedOut"), "{text}");
}

#[tokio::test]
async fn datagrams_that_are_no_quic_harm_nobody() {
    let upstream = mirror().await;
    let proxy = proxy(&public(upstream, "")).await;
    let to = proxy.plane.http3_addr().unwrap();
    let mut client = Client3::to(&proxy).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut noise = 0x1234_5678_u32;
    for round in 0..2000_usize {
        let mut bytes: Vec<u8> = (0..(round * 7) % 1500)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        if let Some(first) = bytes.first_mut() {
            // Long headers of all kinds of versions among them.
            *first = if round % 2 == 0 { 0xc0 | *first } else { *first };
        }
        let _ = socket.send_to(&bytes, to).await;
        if round % 100 == 0 {
            assert_eq!(client.get("/").await.0.status(), 200);
        }
    }
    // An unknown version is answered with those we speak.
    let mut initial = vec![0; 1200];
    initial[..15].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 4, 1, 2, 3, 4, 4, 5, 6, 7, 8]);
    let mut answer = [0; 2000];
    while socket.try_recv(&mut answer).is_ok() {}
    loop {
        socket.send_to(&initial, to).await.unwrap();
        let received = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer)).await;
        if received.is_ok_and(|size| size.is_ok()) && answer[1..5] == [0; 4] {
            break;
        }
    }
    assert_eq!(client.get("/").await.0.status(), 200);
}
