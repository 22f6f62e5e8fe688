//! The services on a real socket, and callers that speak HTTP themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pomerium_api::clock::Clock;
use pomerium_api::databroker::Databroker;
use pomerium_api::databroker::remote::{Remote, Token, Transport};
use pomerium_api::pb::health::{ComponentStatus, HealthStatus};
use pomerium_crypto::service_token;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Server};
use tower::ServiceExt;

use crate::grpc::{self, HealthTable, LogFields, Served, Services, State, Validate};

pub(crate) const SECRET: [u8; 32] = [9; 32];

/// Ends the server with the test.
pub(crate) struct Running(pub(crate) AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The store runs; the proxy has not begun yet.
struct Well(watch::Sender<u64>);

impl HealthTable for Well {
    fn state(&self) -> State {
        State {
            required: vec!["storage.backend".into(), "proxy.service".into()],
            components: [("storage.backend".to_owned(), running())].into(),
            in_service: Vec::new(),
        }
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

fn running() -> ComponentStatus {
    ComponentStatus {
        status: HealthStatus::Running.into(),
        ..ComponentStatus::default()
    }
}

/// The services of a databroker, as `app` puts them together.
pub(crate) fn services(served: impl Into<Served>, clock: Arc<dyn Clock>) -> Services {
    Services {
        served: served.into(),
        health: Arc::new(Well(watch::Sender::new(0))),
        validate: validate(),
        clock,
        shared: Some(SECRET),
        version: "1.2.3-test".into(),
        log_fields: log_fields(),
    }
}

pub(crate) fn log_fields() -> LogFields {
    LogFields {
        access: vec!["method", "path"],
        access_default: vec!["path"],
        authorize: vec!["user"],
        authorize_default: Vec::new(),
    }
}

pub(crate) async fn serve(services: Services) -> (SocketAddr, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, serve_on(listener, services))
}

pub(crate) fn serve_on(listener: TcpListener, services: Services) -> Running {
    let connections = TcpListenerStream::new(listener);
    let router = grpc::router(services).reflected();
    let server = Server::builder().accept_http1(true);
    let task = tokio::spawn(async move { server.serve_with_incoming(router, connections).await.unwrap() });
    Running(task.abort_handle())
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

pub(crate) fn client(channel: Channel, token: Token) -> Arc<dyn Databroker> {
    Arc::new(Remote::new(transport(channel), token, Duration::from_secs(10)))
}

pub(crate) fn transport(channel: Channel) -> Transport {
    Transport::new(channel.map_err(|error| Status::from_error(Box::new(error))))
}

pub(crate) fn own_token(clock: impl Clock) -> Token {
    Arc::new(move || service_token::sign(&SECRET, clock.now().as_second()))
}

/// What a call came to.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    async fn read<B: http_body::Body<Data = Bytes>>(response: Response<B>) -> Self
    where
        B::Error: std::fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        Self {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status of a gRPC call, wherever it stands.
    pub(crate) fn grpc_status(&self) -> &str {
        let status = self
            .trailers
            .get("grpc-status")
            .or(self.headers.get("grpc-status"));
        status.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// One request over HTTP/1.1, on a connection of its own.
pub(crate) async fn http1(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Reply {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let task = tokio::spawn(connection);
    let host = http::HeaderValue::from_str(&address.to_string()).unwrap();
    request.headers_mut().insert("host", host);
    let reply = Reply::read(sender.send_request(request).await.unwrap()).await;
    task.abort();
    reply
}

/// Requests over one connection of HTTP/2.
pub(crate) struct Http2 {
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { sender, address }
    }

    /// The head of the answer, and its body as far as it comes.
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Reply {
        let uri = format!("http://{}{}", self.address, request.uri());
        *request.uri_mut() = uri.parse().unwrap();
        Reply::read(self.sender.send_request(request).await.unwrap()).await
    }

    /// The head of the answer alone: for streams without end.
    pub(crate) async fn head(&mut self, mut request: Request<Full<Bytes>>) -> HeaderMap {
        let uri = format!("http://{}{}", self.address, request.uri());
        *request.uri_mut() = uri.parse().unwrap();
        self.sender.send_request(request).await.unwrap().headers().clone()
    }
}

/// A message behind its head.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

/// Whether a message may be kept, as `app` judges.
pub(crate) fn validate() -> Validate {
    Arc::new(|kind, message| {
        let faults = pomerium_config::records::validate(kind, message);
        match faults.is_empty() {
            true => Ok(()),
            false => Err(faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ")),
        }
    })
}
