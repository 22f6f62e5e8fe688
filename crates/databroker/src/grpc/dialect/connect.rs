//! The Connect protocol for single calls: plain bodies, errors as JSON, calls without effect by `GET`.

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use pomerium_crypto::encoding::{base64_encode, base64url_decode};
use pomerium_crypto::query::Query;
use serde_json::json;
use tonic::body::Body;
use tonic::{Code, Status};

use super::super::reason;
use super::{Encoding, response};

const PROTOCOL_VERSION: &str = "connect-protocol-version";

/// The message of a reply.
pub(super) fn reply(encoding: Encoding, message: Bytes) -> Response<Body> {
    let content_type = match encoding {
        Encoding::Proto => "application/proto",
        Encoding::Json => "application/json",
    };
    response(StatusCode::OK, content_type, Body::new(Full::new(message)))
}

/// An error as JSON, with the HTTP status of its code.
pub(super) fn refuse(status: &Status) -> Response<Body> {
    let (name, http) = named(status.code());
    let mut body = json!({"code": name});
    if !status.message().is_empty() {
        body["message"] = status.message().into();
    }
    let details: Vec<_> = reason::details(status).iter().map(detail).collect();
    if !details.is_empty() {
        body["details"] = details.into();
    }
    let body = Body::new(Full::new(Bytes::from(body.to_string())));
    response(http, "application/json", body)
}

/// A detail in the form of the protocol: the name of its type without a host, its bytes in base64 without padding.
fn detail(detail: &prost_types::Any) -> serde_json::Value {
    let kind = detail.type_url.rsplit('/').next().unwrap_or_default();
    let value = base64_encode(&detail.value);
    json!({"type": kind, "value": value.trim_end_matches('=')})
}

/// The name of a code, and its HTTP status.
fn named(code: Code) -> (&'static str, StatusCode) {
    match code {
        Code::Cancelled => (
            "canceled",
            StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        ),
        Code::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
        Code::DeadlineExceeded => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Code::AlreadyExists => ("already_exists", StatusCode::CONFLICT),
        Code::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
        Code::ResourceExhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Code::FailedPrecondition => ("failed_precondition", StatusCode::BAD_REQUEST),
        Code::Aborted => ("aborted", StatusCode::CONFLICT),
        Code::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
        Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::DataLoss => ("data_loss", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unknown | Code::Ok => ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Whether a `POST` is of the version and in the form that is understood.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Status> {
    if let Some(version) = headers.get(PROTOCOL_VERSION)
        && version != "1"
    {
        return Err(Status::invalid_argument("Connect-Protocol-Version must be 1"));
    }
    compression(headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()))
}

fn compression(name: Option<&[u8]>) -> Result<(), Status> {
    match name {
        None | Some(b"" | b"identity") => Ok(()),
        Some(_) => Err(Status::unimplemented(
            "compressed messages are not supported: send them as they are (identity)",
        )),
    }
}

/// The message of a `GET`, from its query.
pub(super) fn query(query: &str) -> Result<(Encoding, Bytes), Status> {
    let query = Query::parse(query);
    if query.is_malformed() {
        return Err(Status::invalid_argument("the query is malformed"));
    }
    // Of several nobody could say which one counts.
    let parameters = ["connect", "encoding", "message", "base64", "compression"];
    if let Some(name) = parameters.into_iter().find(|name| query.count(name) > 1) {
        return Err(Status::invalid_argument(format!("{name} is given twice")));
    }
    if query.get("connect").is_some_and(|version| version != "v1") {
        return Err(Status::invalid_argument("connect must be v1"));
    }
    compression(query.get("compression").map(str::as_bytes))?;
    let encoding = match query.get("encoding") {
        Some("json") => Encoding::Json,
        Some("proto") => Encoding::Proto,
        _ => return Err(Status::invalid_argument("encoding must be json or proto")),
    };
    let message = query
        .get("message")
        .ok_or_else(|| Status::invalid_argument("message is missing"))?;
    let message = match query.get("base64") {
        Some("1") => base64url_decode(message.trim_end_matches('='))
            .map_err(|_| Status::invalid_argument("message is not base64url"))?,
        _ => message.as_bytes().to_vec(),
    };
    Ok((encoding, message.into()))
}
