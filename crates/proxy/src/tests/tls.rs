//! TLS and HTTP/2, downstream and upstream.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::support::*;
use crate::upstream::unverified_client_config;

async fn tls_proxy(routes: &str) -> Proxy {
    let mut config = settings("", routes);
    config.listener.insecure = false;
    Proxy::with(&config, Vec::new(), generated_certificate()).await
}

async fn tls(proxy: &Proxy, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let connector = TlsConnector::from(unverified_client_config(alpn).unwrap());
    let name = rustls_pki_types::ServerName::try_from("app.example.com").unwrap();
    connector
        .connect(name, TcpStream::connect(proxy.addr).await.unwrap())
        .await
        .unwrap()
}

/// A gRPC-like upstream on HTTP/2 without TLS: echoes the body and ends with trailers.
pub(super) async fn h2_upstream() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let te = request.headers().get("te").cloned();
                let authority = request.uri().authority().unwrap().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                trailers.extend(te.map(|te| (http::HeaderName::from_static("saw-te"), te)));
                trailers.insert("saw-authority", authority.parse().unwrap());
                let frames = [
                    Ok::<_, std::io::Error>(Frame::data(body)),
                    Ok(Frame::trailers(trailers)),
                ];
                Ok::<_, std::io::Error>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

/// The answer to one request over TLS and HTTP/1.1.
pub(super) async fn get(proxy: &Proxy, path: &str) -> Response<Bytes> {
    let stream = tls(proxy, b"http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "app.example.com")
        .body(Full::<Bytes>::default())
        .unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn http1_over_tls() {
    let upstream = mirror().await;
    let proxy = tls_proxy(&public(upstream, "")).await;
    let stream = tls(&proxy, b"http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("/x")
        .header("host", "app.example.com")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = response.into_body().collect().await.unwrap().to_bytes();
    let seen = String::from_utf8_lossy(&seen).to_ascii_lowercase();
    assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let routes = format!(
        "  - from: https://app.example.com\n    to: h2c://{}\n    allow_public_unauthenticated_access: true\n",
        h2_upstream().await
    );
    let proxy = tls_proxy(&routes).await;
    let stream = tls(&proxy, b"h2").await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let call = |number: usize| {
        let mut sender = sender.clone();
        async move {
            let request = Request::post("https://app.example.com/s.S/M")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from(format!("call {number}"))))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap()
        }
    };
    let answers = futures_util::future::join_all((0..50).map(call)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        let trailers = answer.trailers().unwrap().clone();
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["saw-te"], "trailers");
        assert!(
            trailers["saw-authority"]
                .to_str()
                .unwrap()
                .starts_with("127.0.0.1:")
        );
        assert_eq!(answer.to_bytes(), format!("call {number}"));
    }
}

#[tokio::test]
async fn grpc_without_a_route_gets_a_grpc_answer() {
    let proxy = tls_proxy(&public(nobody().await, "")).await;
    let stream = tls(&proxy, b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post("https://other.example.com/s.S/M")
        .header("content-type", "application/grpc")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &HeaderValue::from_static("5"))
    );
    let head = Request::head("https://app.example.com/")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(head).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
}

#[tokio::test]
async fn http2_without_tls_is_known_by_its_preface() {
    let upstream = mirror().await;
    let proxy = Proxy::start(&settings("", &public(upstream, ""))).await;
    let stream = TcpStream::connect(proxy.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://app.example.com/")
        .body(Full::<Bytes>::default())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    // A drain ends it with a GOAWAY.
    assert!(proxy.plane.drain(std::time::Duration::from_secs(5)).await);
    assert!(sender.ready().await.is_err() || sender.is_closed());
}

#[tokio::test]
async fn an_upstream_over_tls_is_verified() {
    let inner = tls_proxy(&public(mirror().await, "")).await;
    let to = |more: &str| {
        format!(
            "  - from: https://app.example.com\n    to: https://localhost:{}\n    preserve_host_header: true\n    allow_public_unauthenticated_access: true\n{more}",
            inner.addr.port()
        )
    };
    for (more, status) in [
        ("", 503),
        ("    tls_skip_verify: true\n", 200),
        ("    tls_skip_verify: true\n    allow_websockets: true\n", 200),
    ] {
        let outer = Proxy::start(&settings("", &to(more))).await;
        let answer = outer.get("/", "Accept: application/json\r\n").await;
        assert_eq!(answer.status, status, "{more}: {}", answer.text());
    }
    assert!(Arc::strong_count(&inner.shared) >= 1);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_holds_nothing_up() {
    let proxy = tls_proxy(&public(mirror().await, "")).await;
    let mut stalled = proxy.connect().await;
    stalled.send("\u{16}").await;
    let stream = tls(&proxy, b"http/1.1").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}
