//! The one body type that every room hands to the next, and the smallest ways to make one.

use std::error::Error;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

/// Any failure while a body streams.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A request or response body: `Send`, streamed, its source forgotten.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A response with our body type.
pub type Response = http::Response<Body>;

/// A body of bytes that are all here.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A response with a content type and a body.
pub fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_body_knows_its_length_and_empty_is_at_its_end() {
        use http_body::Body as _;
        assert_eq!(full("abc").size_hint().exact(), Some(3));
        assert!(empty().is_end_stream());
    }

    #[test]
    fn response_carries_status_and_type() {
        let made = response(StatusCode::NOT_FOUND, "text/plain", "no");
        assert_eq!(made.status(), 404);
        assert_eq!(made.headers()["content-type"], "text/plain");
    }
}
