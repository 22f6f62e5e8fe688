//! What the tame upstream does with a request.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::gate::Gates;
use super::recorded::Recorded;
use crate::serve::{Body, BoxError, answer, full, json};

/// A prepared answer.
#[derive(Debug, Clone)]
pub(super) struct Canned {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// State of the upstream, shared by its connections.
#[derive(Debug, Clone)]
pub(super) struct Zoo {
    pub(super) requests: Arc<Mutex<Vec<Recorded>>>,
    pub(super) count: Arc<watch::Sender<usize>>,
    pub(super) canned: Arc<Mutex<Option<Canned>>>,
    pub(super) gates: Gates,
}

impl Zoo {
    pub(super) async fn respond(self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if path == "/ws" && request.headers().contains_key("upgrade") {
            return self.websocket(request);
        }
        if path == "/early" {
            self.record(Recorded::from_parts(&request.into_parts().0, Vec::new()));
            return answer(200, "text/plain", "early");
        }
        let (parts, body) = request.into_parts();
        // A request that is broken off is not a request that was received.
        let Ok(body) = body.collect().await else {
            return answer(400, "text/plain", "the request broke off");
        };
        let body = body.to_bytes();
        let recorded = Recorded::from_parts(&parts, body.to_vec());
        self.record(recorded.clone());
        if is_grpc(&parts.headers) {
            return grpc_echo(body);
        }
        match path.trim_start_matches('/').split_once('/') {
            Some(("gated", name)) => match self.gates.body(name) {
                Some(body) => Response::new(body),
                None => answer(404, "text/plain", "no such gate"),
            },
            Some(("status", code)) => answer(code.parse().unwrap_or(500), "text/plain", code.to_owned()),
            _ if path == "/stall" => std::future::pending().await,
            _ => self.canned().unwrap_or_else(|| json(&recorded.to_json())),
        }
    }

    fn record(&self, request: Recorded) {
        self.requests.lock().push(request);
        self.count.send_modify(|count| *count += 1);
    }

    fn canned(&self) -> Option<Response<Body>> {
        let canned = self.canned.lock().clone()?;
        let mut response = Response::builder().status(canned.status);
        for (name, value) in &canned.headers {
            response = response.header(name, value);
        }
        Some(response.body(full(canned.body)).unwrap())
    }

    fn websocket(&self, mut request: Request<Incoming>) -> Response<Body> {
        let upgrade = hyper::upgrade::on(&mut request);
        let key = request.headers().get("sec-websocket-key").cloned();
        let (parts, _) = request.into_parts();
        self.record(Recorded::from_parts(&parts, Vec::new()));
        let Some(key) = key else {
            return answer(400, "text/plain", "no key");
        };
        tokio::spawn(async move {
            let Ok(stream) = upgrade.await else { return };
            let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                    break;
                }
            }
        });
        Response::builder()
            .status(101)
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-accept", derive_accept_key(key.as_bytes()))
            .body(full(""))
            .unwrap()
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The messages as they came, then `grpc-status: 0` and a trailer with raw bytes.
fn grpc_echo(body: Bytes) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let binary = base64::engine::general_purpose::STANDARD_NO_PAD.encode([0_u8, 255, 10]);
    trailers.insert("echo-bin", http::HeaderValue::from_str(&binary).unwrap());
    let frames: [Result<_, BoxError>; 2] = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}
