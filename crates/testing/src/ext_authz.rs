//! Envoy's side of external authorization: what it asks, and one call over HTTP/2 without TLS.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pomerium_api::pb::ext_authz::{
    Address, AttributeContext, CheckRequest, CheckResponse, Entry, SocketAddress, address, attribute_context,
};
use prost::Message as _;

/// The path of the method.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What came back from a call.
#[derive(Debug)]
pub struct Called {
    /// Of HTTP.
    pub status: u16,
    /// The body, prefix of the message and all.
    pub body: Bytes,
    /// `grpc-status`, from the trailers or from a head without body.
    pub grpc_status: Option<String>,
}

/// A message with its gRPC prefix.
pub fn framed(message: &[u8]) -> Result<Bytes> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len())?.to_be_bytes());
    frame.extend(message);
    Ok(Bytes::from(frame))
}

/// Calls `method` over a connection of its own, with bytes that may be no message.
pub async fn call(address: SocketAddr, method: &str, message: &[u8]) -> Result<Called> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://decision{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(message)?))?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let grpc_status = body.trailers().unwrap_or(&parts.headers).get("grpc-status");
    let grpc_status = grpc_status.and_then(|status| Some(status.to_str().ok()?.to_owned()));
    Ok(Called {
        status: parts.status.as_u16(),
        body: body.to_bytes(),
        grpc_status,
    })
}

/// Calls `Check`. An error of the call is an error here.
pub async fn check(address: SocketAddr, message: &[u8]) -> Result<CheckResponse> {
    let called = call(address, CHECK, message).await?;
    ensure!(
        called.status == 200 && called.grpc_status.as_deref() == Some("0") && called.body.len() >= 5,
        "{called:?}"
    );
    Ok(CheckResponse::decode(called.body.slice(5..))?)
}

/// A question of Envoy about `GET https://<host><path>` from 192.0.2.7, with these headers.
pub fn question(host: &str, path: &[u8], headers: &[(&str, &str)]) -> CheckRequest {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let headers = headers.iter().map(|(key, value)| Entry {
        key: bytes(key),
        value: bytes(value),
    });
    let socket = SocketAddress {
        address: "192.0.2.7".into(),
        port_value: 50_000,
    };
    let source = attribute_context::Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        certificate: String::new(),
    };
    let http = attribute_context::HttpRequest {
        method: bytes("GET"),
        headers: headers.collect(),
        path: Bytes::copy_from_slice(path),
        host: bytes(host),
        scheme: bytes("https"),
        ..Default::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            request: Some(attribute_context::Request { http: Some(http) }),
            context_extensions: Vec::new(),
        }),
    }
}

/// The HTTP part of a question.
pub fn http(question: &mut CheckRequest) -> &mut attribute_context::HttpRequest {
    let attributes = question.attributes.get_or_insert_default();
    attributes
        .request
        .get_or_insert_default()
        .http
        .get_or_insert_default()
}
