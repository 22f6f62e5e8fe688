//! Just enough of gRPC for one unary method: one message in, one out. Its limits are those of a request head.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};
use pomerium_web::body::BoxError;
use prost::Message;

use crate::flow::Reply;

/// The largest message: a request head at its limit, and room for what is said around it.
const MAX_MESSAGE: usize = 256 * 1024;
/// A message has this long to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Flag and length before a message.
const PREFIX: usize = 5;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A message that broke off, whatever carried it.
#[derive(Debug, thiserror::Error)]
#[error("the message broke off")]
struct Broken;

/// Whether `request` is a call.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// The one message of a call. Errors say what is wrong with it.
pub(super) async fn read<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, &'static str> {
    let whole = Limited::new(body.map_err(|_| Broken), MAX_MESSAGE + PREFIX).collect();
    let whole = match tokio::time::timeout(PATIENCE, whole).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) => return Err("the message is too large or broke off"),
        Err(_) => return Err("the message did not arrive in time"),
    };
    unframe(whole)
}

fn unframe(mut whole: Bytes) -> Result<Bytes, &'static str> {
    if whole.len() < PREFIX {
        return Err("the message is cut short");
    }
    if whole.get_u8() != 0 {
        return Err("the message is compressed");
    }
    let length = whole.get_u32() as usize;
    if whole.len() != length {
        return Err("the message has another length than it says");
    }
    Ok(whole)
}

/// The answer of a call that went well.
pub(super) fn reply(message: &impl Message) -> Response<pomerium_web::Body> {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // Room for it is there.
    let _ = message.encode(&mut bytes);
    let body = Unary {
        message: Some(bytes.freeze()),
        trailers: true,
    };
    let mut response = Response::new(body.boxed_unsync());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The answer to every other method.
pub(super) fn unimplemented() -> Reply {
    super::bare(failure("12", "no such method here"))
}

/// The answer of a process that stops.
pub(super) fn unavailable() -> Response<pomerium_web::Body> {
    failure("14", "this process is stopping")
}

fn failure(status: &'static str, message: &'static str) -> Response<pomerium_web::Body> {
    let mut response = Response::new(pomerium_web::body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from_static(status));
    headers.insert(MESSAGE, HeaderValue::from_static(message));
    response
}

/// A message, then the trailers of success.
struct Unary {
    message: Option<Bytes>,
    trailers: bool,
}

impl Body for Unary {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::take(&mut self.trailers) {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert(STATUS, HeaderValue::from_static("0"));
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.trailers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_plain_message() {
        let frame = |bytes: &[u8]| unframe(Bytes::copy_from_slice(bytes));
        assert_eq!(frame(b"\0\0\0\0\x02ab").unwrap(), "ab");
        assert_eq!(frame(b"\0\0\0\0\0").unwrap(), "");
        for bad in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02ab",
            b"\0\0\0\0\x03ab",
            b"\0\0\0\0\x01ab",
            b"\0\xff\xff\xff\xffab",
            b"\0\0\0\0\x01a\0\0\0\0\x01b",
        ] {
            assert!(frame(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
