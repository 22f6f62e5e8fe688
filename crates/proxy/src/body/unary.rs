//! The body of a gRPC call that was answered: one message, then the trailers of success.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use pomerium_web::body::BoxError;

/// Bytes of one piece. The HTTP/2 library copies pieces shorter than 1,024 into its buffer, so that the answers to
/// many calls leave with one system call; longer ones it writes out one by one (where writes are not gathered, see
/// `conn::io`).
const PIECE: usize = 1023;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A message with its prefix, then `grpc-status: 0`.
pub struct Unary {
    message: Bytes,
    trailers: bool,
}

impl Unary {
    /// `message` comes with its prefix.
    pub fn new(message: Bytes) -> Self {
        Self {
            message,
            trailers: true,
        }
    }
}

impl Body for Unary {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.message.is_empty() {
            let length = self.message.len().min(PIECE);
            return Poll::Ready(Some(Ok(Frame::data(self.message.split_to(length)))));
        }
        if std::mem::take(&mut self.trailers) {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert(STATUS, HeaderValue::from_static("0"));
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_empty() && !self.trailers
    }

    fn size_hint(&self) -> SizeHint {
        // A length in the head would say the same twice, and gRPC has none.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_message_comes_in_short_pieces_and_then_its_trailers() {
        for length in [5, PIECE, PIECE + 1, 10 * PIECE] {
            let mut body = Unary::new(Bytes::from(vec![7; length]));
            let (mut bytes, mut status) = (0, None);
            while let Some(frame) = body.frame().await {
                match frame.unwrap().into_data() {
                    Ok(data) => {
                        assert!(data.len() <= PIECE && status.is_none());
                        bytes += data.len();
                    }
                    Err(trailers) => status = Some(trailers.into_trailers().unwrap()[STATUS].clone()),
                }
            }
            assert_eq!((bytes, status.unwrap().as_bytes()), (length, &b"0"[..]));
            assert!(body.is_end_stream());
        }
    }
}
