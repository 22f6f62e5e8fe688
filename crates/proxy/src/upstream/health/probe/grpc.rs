//! gRPC: `grpc.health.v1.Health/Check`, which says SERVING or not.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;
use prost::Message;

use super::exchange::{Answer, ask};
use super::http::AGENT;
use super::{Kept, Prober, Report};

const PATH: &str = "/grpc.health.v1.Health/Check";
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; the status is an open enumeration.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn probe(prober: &Prober, service: &str, authority: &str, kept: Kept) -> (Report, Kept) {
    let authority = if authority.is_empty() {
        &*prober.cluster
    } else {
        authority
    };
    let request = match request(service, authority, prober.scheme()) {
        Ok(request) => request,
        Err(error) => return (Report::silent(error.to_string()), Kept::Nothing),
    };
    match ask(prober, true, kept, &request).await {
        Ok((answer, sender)) => (judge(&answer), Kept::Http(sender)),
        Err(reason) => (Report::silent(reason), Kept::Nothing),
    }
}

fn request(service: &str, authority: &str, scheme: &str) -> Result<Request<Full<Bytes>>, http::Error> {
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(PATH)
        .build()?;
    Request::builder()
        .version(Version::HTTP_2)
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .header(USER_AGENT, AGENT)
        .body(Full::new(framed(service)))
}

/// The length-prefixed message of gRPC over HTTP/2: a flag, four bytes of length, the message.
fn framed(service: &str) -> Bytes {
    let message = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

fn judge(answer: &Answer) -> Report {
    let status = answer.head.status;
    if status != 200 {
        return Report::bad(format!("HTTP status {status}"));
    }
    let code = answer
        .trailers
        .as_ref()
        .and_then(grpc_status)
        .or_else(|| grpc_status(&answer.head.headers));
    match code.as_deref() {
        Some("0") => {}
        Some(code) => return Report::bad(format!("grpc-status {code}")),
        None => return Report::bad("an answer without grpc-status"),
    }
    match unframed(&answer.body).map(HealthCheckResponse::decode) {
        Some(Ok(HealthCheckResponse { status: SERVING })) => Report::good(),
        Some(Ok(HealthCheckResponse { status })) => Report::bad(format!("serving status {status}")),
        Some(Err(_)) | None => Report::bad("an answer that is no health message"),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    headers.get("grpc-status")?.to_str().ok().map(str::to_owned)
}

/// The one message of an answer; `None` when it is compressed, cut short or followed by another.
fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<5>()?;
    let [0, length @ ..] = prefix else { return None };
    (message.len() == u32::from_be_bytes(*length) as usize).then_some(message)
}
