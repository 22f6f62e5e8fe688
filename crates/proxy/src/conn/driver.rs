//! Drives an HTTP connection to its end: the connection itself, its clock, and the process's phase.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::state::{ConnLimits, ConnState, Verdict};
use super::streams::reader_of_begun;
use crate::body::Reader;
use crate::lifecycle::Phase;
use crate::worker::Worker;

/// A connection of the HTTP library that can be told to finish.
pub(super) trait Graceful: Future<Output = hyper::Result<()>> {
    /// Finishes what runs and takes nothing new: GOAWAY or `Connection: close`.
    fn graceful(self: Pin<&mut Self>);
}

/// How a connection came to its end.
pub(super) enum Ended<C> {
    /// It is closed, or has become something else.
    Closed,
    /// A request head needs a parser with more room; nothing else is under way.
    NeedsWide(Box<C>),
    /// A request head did not come in time; nothing is on its way to the client.
    SlowHead(Box<C>),
}

/// The future of one connection.
pub(super) struct Driver<C> {
    connection: Option<Box<C>>,
    state: Arc<ConnState>,
    worker: Arc<Worker>,
    limits: ConnLimits,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the client reads the answer under way, where one connection has one request at a time.
    reader: Option<Reader>,
    /// Since when writes waited at the last look.
    blocked_since: u64,
    finishing: bool,
    /// Until when a connection that has not spoken yet may begin, once the process drains.
    last_call: Option<Pin<Box<Sleep>>>,
}

impl<C: Graceful + Unpin> Driver<C> {
    pub(super) fn new(connection: C, state: Arc<ConnState>, worker: Arc<Worker>, limits: ConnLimits) -> Self {
        let mut this = Self {
            connection: Some(Box::new(connection)),
            state,
            worker,
            limits,
            timer: None,
            reader: None,
            blocked_since: 0,
            finishing: false,
            last_call: None,
        };
        if let Verdict::Wait(at) = this.state.verdict(&limits) {
            this.timer = Some(Box::pin(sleep_until(at)));
        }
        this
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.finishing, true)
            && let Some(connection) = &mut self.connection
        {
            Pin::new(&mut **connection).graceful();
        }
    }

    /// A client that has just connected may have its first request on the way: it gets a moment.
    fn poll_last_call(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let last_call = self.last_call.get_or_insert_with(|| Box::pin(sleep(LAST_CALL)));
        last_call.as_mut().poll(cx)
    }

    /// Ready when the answer under way is to be cut because its client does not take it.
    fn poll_reader(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.is_quiet() {
            self.reader = None;
        }
        let Some(reader) = &mut self.reader else {
            return Poll::Pending;
        };
        let blocked_since = self.state.blocked_since();
        if std::mem::replace(&mut self.blocked_since, blocked_since) != blocked_since {
            reader.took();
        }
        reader.poll_unread(cx)
    }

    fn slow_head(&mut self) -> Ended<C> {
        self.worker.shared.metrics.slow_heads.inc();
        let connection = self.connection.take().filter(|_| self.state.is_flushed());
        connection.map_or(Ended::Closed, Ended::SlowHead)
    }

    /// Ready when the connection is to be cut.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Ended<C>> {
        loop {
            let Some(timer) = &mut self.timer else {
                return Poll::Pending;
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.state.verdict(&self.limits) {
                Verdict::Cut => return Poll::Ready(Ended::Closed),
                Verdict::SlowHead => return Poll::Ready(self.slow_head()),
                Verdict::Wait(at) => timer.as_mut().reset(at.max(Instant::now() + MINIMUM)),
                Verdict::Unlimited => self.timer = None,
                Verdict::Idle if self.finishing => return Poll::Ready(Ended::Closed),
                Verdict::Idle => {
                    // The peer gets one more head timeout to acknowledge; then the connection is cut.
                    timer.as_mut().reset(Instant::now() + CLOSE_WAIT);
                    self.finish();
                    cx.waker().wake_by_ref();
                }
            }
        }
    }
}

const MINIMUM: std::time::Duration = std::time::Duration::from_millis(10);
const CLOSE_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a connection that has not spoken yet may do so once the process drains.
pub(super) const LAST_CALL: std::time::Duration = std::time::Duration::from_secs(2);

impl<C: Graceful + Unpin> Driver<C> {
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Ended<C>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Ended::Closed);
        };
        let polled = Pin::new(&mut **connection).poll(cx);
        if let Some(reader) = reader_of_begun() {
            self.reader = Some(reader);
        }
        if let Poll::Ready(result) = polled {
            if let Err(error) = result {
                tracing::debug!(%error, "downstream connection ended");
            }
            return Poll::Ready(Ended::Closed);
        }
        if self.state.waits_for_wide() && self.state.is_flushed() {
            let connection = self.connection.take();
            return Poll::Ready(connection.map_or(Ended::Closed, Ended::NeedsWide));
        }
        Poll::Pending
    }
}

impl<C: Graceful + Unpin> Future for Driver<C> {
    type Output = Ended<C>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<C>> {
        let this = &mut *self;
        this.state.driver.register(cx.waker());
        let draining = match this.worker.lifecycle.phase() {
            Phase::Running => false,
            Phase::Draining => true,
            Phase::Stopped => return Poll::Ready(Ended::Closed),
        };
        // Told to finish before it has seen a byte, the library closes, and a request that is on its way is lost.
        if draining && !this.state.is_fresh() {
            this.finish();
        }
        match this.poll_connection(cx) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending if draining && this.state.is_fresh() => {
                this.poll_last_call(cx).map(|()| Ended::Closed)
            }
            Poll::Pending if draining && !this.finishing => {
                this.finish();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => match this.poll_reader(cx) {
                Poll::Ready(()) => Poll::Ready(Ended::Closed),
                Poll::Pending => this.poll_clock(cx),
            },
        }
    }
}
