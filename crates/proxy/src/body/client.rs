//! The client's request body, whatever version of HTTP it came over.
//!
//! HTTP/1.1 and HTTP/2 bodies are the library's own type and are held as they are, without a box; HTTP/3
//! brings its own.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pomerium_web::body::BoxError;

use super::unread::Unread;

/// A body that is read from somewhere else than the HTTP library.
pub type StreamedBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send + Sync>>;

/// The body of a request as it comes from the client.
pub enum ClientBody {
    /// No body.
    Empty,
    /// HTTP/1.1 or HTTP/2. What is not read is taken in for a while.
    Hyper(Unread),
    /// HTTP/3.
    Streamed(StreamedBody),
}

impl From<Incoming> for ClientBody {
    fn from(body: Incoming) -> Self {
        Self::Hyper(Unread::new(body))
    }
}

impl ClientBody {
    /// The client sends nothing before it is told to (`Expect: 100-continue`), or before it has its answer.
    pub fn waits_for_leave(&mut self) {
        if let Self::Hyper(body) = self {
            body.waits_for_leave();
        }
    }
}

impl fmt::Debug for ClientBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "ClientBody::Empty",
            Self::Hyper(_) => "ClientBody::Hyper",
            Self::Streamed(_) => "ClientBody::Streamed",
        })
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Hyper(body) => body.poll_frame(cx).map_err(BoxError::from),
            Self::Streamed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Hyper(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Hyper(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}
