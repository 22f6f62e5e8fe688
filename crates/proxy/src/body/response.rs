//! The response body on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use pomerium_web::body::BoxError;
use tokio::time::Instant;

use super::reader::Reader;
use super::timing::{Activity, Expired, Watchdog};
use super::unary::Unary;
use crate::exchange::Exchange;
use crate::live::ENDED;
use crate::upstream::Lease;

/// What is done when a response body ends or breaks off.
pub struct Tail {
    /// Written to the access log when the body is dropped.
    pub exchange: Box<Exchange>,
    /// The upstream connection, given back at a clean end.
    pub lease: Option<Lease>,
    /// The limits of the request; `None` for answers of our own.
    pub watchdog: Option<Watchdog>,
}

impl Tail {
    /// A clean end: the connection may serve again, if the request is through as well.
    fn ended(&mut self) {
        let through = self
            .watchdog
            .as_ref()
            .is_none_or(|watchdog| watchdog.activity().is_request_received());
        match self.lease.take() {
            Some(lease) if through => lease.finish(),
            _ => {}
        }
        self.exchange.completed();
    }

    /// A piece is about to go out. Errors when the answer may not go on: however fast it comes, nobody else looks.
    fn pass(&mut self, frame: &Frame<Bytes>) -> Result<(), &'static str> {
        if let Some(data) = frame.data_ref() {
            self.exchange.add_bytes(data.remaining());
        }
        let Some(watchdog) = &self.watchdog else {
            return Ok(());
        };
        let age = watchdog.activity().touch();
        if !watchdog.is_time(age) {
            return Ok(());
        }
        if let Some(expired) = watchdog.overdue(age) {
            return Err(expired.details());
        }
        if self.lease.is_some() && self.exchange.is_ended() {
            return Err(ENDED);
        }
        Ok(())
    }

    /// Ready when the answer may not go on although nothing comes.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        if self.poll_ended(cx).is_ready() {
            return Poll::Ready(ENDED);
        }
        match &mut self.watchdog {
            Some(watchdog) => watchdog.poll_expired(cx).map(Expired::details),
            None => Poll::Pending,
        }
    }

    /// Ready when the upstream's answer may not go on: its route is gone, or those who get it lost it.
    pub(super) fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<()> {
        match self.lease {
            Some(_) => self.exchange.poll_ended(cx),
            None => Poll::Pending,
        }
    }

    /// The answer goes no further.
    pub(super) fn break_off(&mut self, details: &'static str) {
        self.exchange.broke_off(details);
        self.lease = None;
    }
}

/// A response body: an answer of ours, the control plane's, or the upstream's as it comes.
pub struct ResponseBody {
    source: Source,
    /// Shared with those who watch whether the client reads.
    tail: Option<Arc<Mutex<Tail>>>,
}

enum Source {
    Full(Option<Bytes>),
    Boxed(pomerium_web::Body),
    Unary(Unary),
    Upstream(Incoming),
}

impl ResponseBody {
    /// Bytes that are all here.
    pub fn full(bytes: Bytes, tail: Tail) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self::begin(Source::Full(bytes), tail)
    }

    /// No body and nothing to tell at its end: the answer that opens a tunnel.
    pub fn none() -> Self {
        Self {
            source: Source::Full(None),
            tail: None,
        }
    }

    /// A body with nothing to tell at its end.
    pub fn bare(body: pomerium_web::Body) -> Self {
        Self {
            source: Source::Boxed(body),
            tail: None,
        }
    }

    /// A body of the control plane or an error page.
    pub fn boxed(body: pomerium_web::Body, tail: Tail) -> Self {
        Self::begin(Source::Boxed(body), tail)
    }

    /// The answer to a gRPC call; `tail` where there is something to tell at its end.
    pub fn unary(body: Unary, tail: Option<Tail>) -> Self {
        match tail {
            Some(tail) => Self::begin(Source::Unary(body), tail),
            None => Self {
                source: Source::Unary(body),
                tail: None,
            },
        }
    }

    /// The upstream's body.
    pub fn upstream(body: Incoming, tail: Tail) -> Self {
        Self::begin(Source::Upstream(body), tail)
    }

    fn begin(source: Source, mut tail: Tail) -> Self {
        if source.is_end_stream() {
            tail.ended();
        } else {
            tail.exchange.unread(true);
        }
        let tail = Arc::new_cyclic(|this| {
            tail.exchange.answered_by(this);
            Mutex::new(tail)
        });
        Self {
            source,
            tail: Some(tail),
        }
    }

    /// Watches a client that does not take the answer.
    pub fn reader(&self) -> Reader {
        let tail = self.tail.as_ref().map(|tail| tail.lock());
        let activity = tail.and_then(|tail| tail.exchange.activity());
        Reader::new(activity.unwrap_or_else(|| Activity::start(Instant::now(), true)))
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Boxed(body) => Pin::new(body).poll_frame(cx),
            Self::Unary(body) => Pin::new(body).poll_frame(cx),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Boxed(body) => body.is_end_stream(),
            Self::Unary(body) => body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(tail) = &this.tail else {
            return this.source.poll_frame(cx);
        };
        let mut tail = tail.lock();
        tail.exchange.unread(false);
        let why = match this.source.poll_frame(cx) {
            Poll::Pending => std::task::ready!(tail.poll_over(cx)),
            Poll::Ready(None) => {
                tail.ended();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(frame))) => match tail.pass(&frame) {
                Ok(()) => {
                    tail.exchange.unread(true);
                    if this.source.is_end_stream() {
                        tail.ended();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Err(why) => why,
            },
            Poll::Ready(Some(Err(error))) => {
                tail.break_off("upstream_reset_after_response_started");
                return Poll::Ready(Some(Err(error)));
            }
        };
        tail.break_off(why);
        Poll::Ready(Some(Err(why.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Boxed(body) => body.size_hint(),
            Source::Unary(body) => body.size_hint(),
            Source::Upstream(body) => body.size_hint(),
        }
    }
}
