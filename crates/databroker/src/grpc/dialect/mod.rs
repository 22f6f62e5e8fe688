//! How the management service speaks: gRPC, gRPC-Web, and Connect with JSON or binary messages, all of single calls
//! (spec config-api.md 2). What is answered is not decided here, only how it is written: see [`super::manage`].

mod connect;
mod frame;
mod limits;
mod names;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::de::DeserializeSeed;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;

use self::names::Names;
use super::LARGEST;
use super::manage::{Manager, Operation};

const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// What bodies may be.
const TYPES: &str = "application/grpc, application/grpc+json, application/grpc+proto, application/grpc-web, \
                     application/grpc-web+json, application/grpc-web+proto, application/grpc-web-text, \
                     application/grpc-web-text+proto, application/json, application/proto";

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Proto,
    Json,
}

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Grpc(Encoding),
    /// gRPC-Web; `text` is in base64.
    Web {
        encoding: Encoding,
        text: bool,
    },
    /// Connect by `POST`.
    Connect(Encoding),
    /// Connect by `GET`; the encoding is in the query.
    Get,
}

impl Dialect {
    /// That of a request; `None` when it is none of ours.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        use Encoding::{Json, Proto};
        if method == Method::GET {
            return Some(Self::Get);
        }
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        let web = |encoding, text| Self::Web { encoding, text };
        Some(match essence.as_str() {
            "application/grpc" | "application/grpc+proto" => Self::Grpc(Proto),
            "application/grpc+json" => Self::Grpc(Json),
            "application/grpc-web" | "application/grpc-web+proto" => web(Proto, false),
            "application/grpc-web+json" => web(Json, false),
            "application/grpc-web-text" | "application/grpc-web-text+proto" => web(Proto, true),
            "application/proto" => Self::Connect(Proto),
            "application/json" => Self::Connect(Json),
            _ => return None,
        })
    }
}

/// Says no, in the way the caller understands.
pub(super) fn refuse(dialect: Option<Dialect>, status: &Status) -> Response<Body> {
    match dialect {
        Some(Dialect::Grpc(_)) => status.clone().into_http(),
        Some(Dialect::Web { encoding, text }) => frame::web(encoding, text, Err(status)),
        Some(Dialect::Connect(_) | Dialect::Get) | None => connect::refuse(status),
    }
}

/// Says that there is no such thing.
pub(super) fn unknown(dialect: Option<Dialect>, what: &str) -> Response<Body> {
    let mut response = refuse(dialect, &Status::unimplemented(what));
    if !matches!(dialect, Some(Dialect::Grpc(_) | Dialect::Web { .. })) {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// Answers a call of the management service.
pub(super) async fn answer(
    manager: &Manager,
    dialect: Option<Dialect>,
    call: &str,
    request: Request<Body>,
) -> Response<Body> {
    let Some(operation) = manager.operation(call) else {
        return unknown(dialect, "the service has no such call");
    };
    if let Some(refusal) = misdirected(dialect, operation, &request) {
        return refusal;
    }
    let outcome = match limits::of(request.headers()) {
        Err(status) => Err(status),
        Ok(limit) => limits::within(limit, carry_out(manager, operation, dialect, request)).await,
    };
    match (dialect, outcome) {
        (dialect, Err(status)) => refuse(dialect, &status),
        (Some(Dialect::Grpc(_)), Ok((encoding, message))) => frame::grpc(encoding, &message),
        (Some(Dialect::Web { text, .. }), Ok((encoding, message))) => {
            frame::web(encoding, text, Ok(&message))
        }
        (_, Ok((encoding, message))) => connect::reply(encoding, message),
    }
}

/// What is wrong with how a call is made, before it is looked at.
fn misdirected(
    dialect: Option<Dialect>,
    operation: &Operation,
    request: &Request<Body>,
) -> Option<Response<Body>> {
    let get = dialect == Some(Dialect::Get);
    let (status, header, value) =
        if (get && !operation.is_free()) || (!get && request.method() != Method::POST) {
            let allowed = if operation.is_free() { "GET, POST" } else { "POST" };
            (StatusCode::METHOD_NOT_ALLOWED, ALLOW, allowed)
        } else if dialect.is_none() {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, ACCEPT_POST, TYPES)
        } else if matches!(dialect, Some(Dialect::Grpc(_))) && request.version() < Version::HTTP_2 {
            // Its status comes after the body, which HTTP/1.1 proxies and clients drop.
            (StatusCode::HTTP_VERSION_NOT_SUPPORTED, ACCEPT, TYPES)
        } else {
            return None;
        };
    let mut response = connect::refuse(&Status::unimplemented(
        "not by this method, with this content type, over this version of HTTP",
    ));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header, HeaderValue::from_static(value));
    Some(response)
}

async fn carry_out(
    manager: &Manager,
    operation: &Operation,
    dialect: Option<Dialect>,
    request: Request<Body>,
) -> Result<(Encoding, Bytes), Status> {
    let metadata = MetadataMap::from_headers(request.headers().clone());
    let (encoding, bytes) = match dialect {
        Some(Dialect::Grpc(encoding)) => (encoding, frame::message(&body(request, LARGEST + 5).await?)?),
        Some(Dialect::Web {
            encoding,
            text: false,
        }) => (encoding, frame::message(&body(request, LARGEST + 5).await?)?),
        Some(Dialect::Web { encoding, text: true }) => {
            let text = body(request, (LARGEST + 5).div_ceil(3) * 4 + 4).await?;
            (encoding, frame::message(&frame::from_text(&text)?)?)
        }
        Some(Dialect::Connect(encoding)) => {
            connect::check(request.headers())?;
            (encoding, body(request, LARGEST).await?)
        }
        Some(Dialect::Get) | None => connect::query(request.uri().query().unwrap_or_default())?,
    };
    let message = decode(encoding, operation.input(), &bytes)?;
    let answer = manager.call(operation, &metadata, message).await?;
    Ok((encoding, encode(encoding, &answer)?))
}

async fn body(request: Request<Body>, limit: usize) -> Result<Bytes, Status> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let what = format!("the message is larger than {LARGEST} bytes");
            Err(Status::resource_exhausted(what))
        }
        Err(error) => Err(Status::cancelled(format!("the request ended early: {error}"))),
    }
}

/// A name that is not known is refused: a misspelt condition must not be taken for none. So is one that is there twice.
fn decode(encoding: Encoding, message: MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, Status> {
    let invalid =
        |error: &dyn std::fmt::Display| Status::invalid_argument(format!("unmarshal message: {error}"));
    match encoding {
        Encoding::Proto => DynamicMessage::decode(message, bytes).map_err(|error| invalid(&error)),
        Encoding::Json => {
            let names = Names::Message(message.clone());
            names
                .deserialize(&mut serde_json::Deserializer::from_slice(bytes))
                .map_err(|error| invalid(&error))?;
            let mut json = serde_json::Deserializer::from_slice(bytes);
            let options = DeserializeOptions::new();
            let message = DynamicMessage::deserialize_with_options(message, &mut json, &options)
                .map_err(|error| invalid(&error))?;
            json.end().map_err(|error| invalid(&error))?;
            Ok(message)
        }
    }
}

fn encode(encoding: Encoding, message: &DynamicMessage) -> Result<Bytes, Status> {
    match encoding {
        Encoding::Proto => Ok(message.encode_to_vec().into()),
        Encoding::Json => {
            let mut bytes = Vec::new();
            let mut json = serde_json::Serializer::new(&mut bytes);
            message
                .serialize_with_options(&mut json, &SerializeOptions::new())
                .map_err(|error| Status::internal(format!("marshal message: {error}")))?;
            Ok(bytes.into())
        }
    }
}

/// A response that no cache keeps: it may hold secrets.
fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
