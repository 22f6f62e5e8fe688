//! A request body that nobody reads to its end: the answer was there before it.
//!
//! Most such bodies are small and on their way already. Let go at once, they would cost the connection: over HTTP/1.1 it
//! ends, and with it perhaps the answer, which a client that is still sending has not read (RFC 9112 section 9.6); over HTTP/2 the
//! stream is reset, and what was under way for it counts as the client's error. So they are taken in and thrown away, up to a size
//! and for a time; after that the client has its answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How much is read on. What comes after that waits in the windows of the connection.
pub const MOST_UNREAD: u64 = 1024 * 1024;
/// For how long.
const LINGER: Duration = Duration::from_secs(2);

/// A body of the HTTP library. Dropped before its end, it is read on for a while.
#[derive(Debug)]
pub struct Unread {
    body: Option<Incoming>,
    /// Nothing of it comes before it is asked for.
    held_back: bool,
}

impl Unread {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body: Some(body),
            held_back: false,
        }
    }

    pub(super) fn waits_for_leave(&mut self) {
        self.held_back = true;
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        self.held_back = false;
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.held_back || body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(read_on(body));
        }
    }
}

async fn read_on(mut body: Incoming) {
    let reading = async {
        let mut left = MOST_UNREAD;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)) else {
                // Unread, so that nothing is under way any more when it is let go.
                return std::future::pending().await;
            };
            left = rest;
        }
    };
    // Either way the client has had its time.
    let _ = tokio::time::timeout(LINGER, reading).await;
}
