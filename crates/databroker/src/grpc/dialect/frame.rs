//! Messages behind a head of five bytes, and what follows them: gRPC in trailers, gRPC-Web in a last frame of the body.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use pomerium_crypto::encoding::{base64_decode, base64_encode};
use tonic::body::Body;
use tonic::{Code, Status};

use super::{Encoding, LARGEST, response};

/// Flag, then length.
const HEAD: usize = 5;
const PLAIN: u8 = 0;
/// The last frame of gRPC-Web.
const TRAILERS: u8 = 0x80;

/// The one message of a body.
pub(super) fn message(body: &Bytes) -> Result<Bytes, Status> {
    let broken = || Status::invalid_argument("the message is cut short");
    let (head, rest) = body.split_at_checked(HEAD).ok_or_else(broken)?;
    let (flag, length) = head.split_at(1);
    if flag != [PLAIN] {
        return Err(Status::unimplemented(
            "compressed messages are not supported: send them as they are (identity)",
        ));
    }
    let length = u32::from_be_bytes(length.try_into().map_err(|_| broken())?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LARGEST {
        let what = format!("the message is larger than {LARGEST} bytes");
        return Err(Status::resource_exhausted(what));
    }
    match rest.len().cmp(&length) {
        std::cmp::Ordering::Less => Err(broken()),
        std::cmp::Ordering::Equal => Ok(body.slice(HEAD..)),
        std::cmp::Ordering::Greater => Err(Status::unimplemented("this call takes one message")),
    }
}

/// The bytes of a body in base64.
pub(super) fn from_text(text: &[u8]) -> Result<Bytes, Status> {
    let invalid = || Status::invalid_argument("the body is not base64");
    let text = std::str::from_utf8(text).map_err(|_| invalid())?;
    Ok(base64_decode(text).map_err(|_| invalid())?.into())
}

fn frame(flag: u8, content: &[u8]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(HEAD + content.len());
    frame.put_u8(flag);
    frame.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    frame.put_slice(content);
    frame
}

/// A reply in gRPC.
pub(super) fn grpc(encoding: Encoding, message: &[u8]) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(frame(PLAIN, message).freeze());
    let body = body.with_trailers(async { Some(Ok(trailers)) });
    let content_type = match encoding {
        Encoding::Proto => "application/grpc+proto",
        Encoding::Json => "application/grpc+json",
    };
    response(StatusCode::OK, content_type, Body::new(body))
}

/// A reply in gRPC-Web, or an error.
pub(super) fn web(encoding: Encoding, text: bool, outcome: Result<&[u8], &Status>) -> Response<Body> {
    let (mut body, status) = match outcome {
        Ok(message) => (frame(PLAIN, message), &Status::new(Code::Ok, "")),
        Err(status) => (BytesMut::new(), status),
    };
    let mut trailers = Vec::new();
    let mut headers = HeaderMap::new();
    // What cannot be written as a header is a message, and the code alone says enough.
    if status.add_header(&mut headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from(i32::from(status.code())));
    }
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            trailers.extend_from_slice(part);
        }
    }
    body.extend_from_slice(&frame(TRAILERS, &trailers));
    let (content_type, body) = match (text, encoding) {
        (true, _) => (
            "application/grpc-web-text+proto",
            Bytes::from(base64_encode(&body)),
        ),
        (false, Encoding::Proto) => ("application/grpc-web+proto", body.freeze()),
        (false, Encoding::Json) => ("application/grpc-web+json", body.freeze()),
    };
    response(StatusCode::OK, content_type, Body::new(Full::new(body)))
}
