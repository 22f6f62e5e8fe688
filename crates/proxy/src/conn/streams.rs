//! The streams of an HTTP/2 connection as tasks. The library asks an answer for its next piece only when the
//! client has made room for it; a client that makes none would hold the stream, and what lies behind it, for
//! ever. So a stream whose answer is not asked for is watched from outside, and reset when its time is over
//! ([`Reader`]). The driver of an HTTP/1.1 connection does the same for the one request it has.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

use crate::body::{Activity, Reader};

thread_local! {
    /// The request that has begun on this thread, until whoever drives it has noticed.
    static BEGUN: Cell<Option<Arc<Activity>>> = const { Cell::new(None) };
}

/// Notes the request that the library goes on with. On HTTP/2 it starts its task before it does anything else.
pub(super) fn begun(activity: Arc<Activity>) {
    BEGUN.set(Some(activity));
}

/// The client of the request that was begun on this thread since the last time.
pub(super) fn reader_of_begun() -> Option<Reader> {
    BEGUN.take().map(Reader::new)
}

/// Starts the tasks of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        match reader_of_begun() {
            Some(reader) => tokio::spawn(Watched { stream, reader }),
            None => tokio::spawn(stream),
        };
    }
}

pin_project! {
    /// A stream, and whether its client reads.
    struct Watched<F> {
        #[pin]
        stream: F,
        reader: Reader,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Dropping the stream resets it.
        this.reader.poll_unread(cx)
    }
}
