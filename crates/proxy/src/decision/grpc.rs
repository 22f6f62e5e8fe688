//! Just enough of gRPC for one unary method: one message in, one out. Its limits are those of a request head.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use pomerium_web::canonical;

use super::response::PREFIX;
use crate::body::{ResponseBody, Tail, Unary};
use crate::exchange::Exchange;
use crate::flow::Reply;
use crate::headers::response::set_request_id;

/// The largest message: a request head at its limit, and room for what is said around it.
const MAX_MESSAGE: usize = 256 * 1024;
/// A message has this long to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
const KIND: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether `request` is a call.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    canonical::is_grpc(request.headers())
}

/// The one message of a call. Errors say what is wrong with it.
pub(super) async fn read<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, &'static str> {
    let mut gathering = pin!(gather(body));
    // It came along with the head, as a rule; a clock would cost more than reading it.
    let whole = match futures_util::poll!(gathering.as_mut()) {
        Poll::Ready(whole) => whole,
        Poll::Pending => match tokio::time::timeout(PATIENCE, gathering).await {
            Ok(whole) => whole,
            Err(_) => return Err("the message did not arrive in time"),
        },
    };
    unframe(whole?)
}

/// The whole body. Mostly it is one piece, which is not copied.
async fn gather<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, &'static str> {
    const BROKEN: &str = "the message is too large or broke off";
    let mut body = pin!(body);
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| BROKEN)?.into_data() else {
            continue;
        };
        if first.len() + more.len() + piece.len() > MAX_MESSAGE + PREFIX {
            return Err(BROKEN);
        }
        if first.is_empty() {
            first = piece;
        } else {
            more.extend_from_slice(&piece);
        }
        if body.is_end_stream() {
            break;
        }
    }
    if more.is_empty() {
        return Ok(first);
    }
    Ok([&first[..], &more].concat().into())
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

/// The answer of a call that went well: a message with its prefix. `exchange` is the request that it is about, where that
/// is told of at its end.
pub(super) fn reply(message: Bytes, exchange: Option<Box<Exchange>>) -> Reply {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(CONTENT_TYPE, KIND);
    let tail = exchange.map(|exchange| {
        set_request_id(&mut headers, exchange.request_id());
        Tail {
            exchange,
            lease: None,
            watchdog: None,
        }
    });
    let mut response = Response::new(ResponseBody::unary(Unary::new(message), tail));
    *response.headers_mut() = headers;
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
    headers.insert(CONTENT_TYPE, KIND);
    headers.insert(STATUS, HeaderValue::from_static(status));
    headers.insert(MESSAGE, HeaderValue::from_static(message));
    response
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
