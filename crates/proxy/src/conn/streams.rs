//! The streams of an HTTP/2 connection as tasks. The library asks an answer for its next piece only when the
//! client has made room for it; a client that makes none would hold the stream, and what lies behind it, for
//! ever. So a stream whose answer is not asked for is watched from outside, and reset when its time is over.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

use crate::body::{Activity, Watchdog};

thread_local! {
    /// The request that has begun on this thread and has no task yet.
    static BEGUN: Cell<Option<Arc<Activity>>> = const { Cell::new(None) };
}

/// Notes the request whose task the library starts next: it does so before it does anything else.
pub(super) fn begun(activity: Arc<Activity>) {
    BEGUN.set(Some(activity));
}

/// Starts the tasks of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        match BEGUN.take() {
            Some(activity) => tokio::spawn(Watched {
                stream,
                activity,
                watchdog: None,
            }),
            None => tokio::spawn(stream),
        };
    }
}

pin_project! {
    /// A stream and the clock that runs while its answer is not asked for.
    struct Watched<F> {
        #[pin]
        stream: F,
        activity: Arc<Activity>,
        watchdog: Option<Watchdog>,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !this.activity.is_unread() {
            return Poll::Pending;
        }
        let watchdog = this.watchdog.get_or_insert_with(|| this.activity.watch_reader());
        // Dropping the stream resets it.
        watchdog
            .poll_expired(cx)
            .map(|expired| this.activity.cut(expired))
    }
}
