//! The response body on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pomerium_web::body::BoxError;

use super::timing::{MOMENT, Watchdog};
use super::unary::Unary;
use crate::exchange::Exchange;
use crate::live::{ENDED, Hold};
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

/// A response body: an answer of ours, the control plane's, or the upstream's as it comes.
pub struct ResponseBody {
    source: Source,
    /// In a box: the library moves a response several times before it sends it.
    tail: Option<Box<Tail>>,
    /// Taken when the answer lasts longer than a moment.
    hold: Option<Box<Hold>>,
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
            hold: None,
        }
    }

    /// A body with nothing to tell at its end.
    pub fn bare(body: pomerium_web::Body) -> Self {
        Self {
            source: Source::Boxed(body),
            tail: None,
            hold: None,
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
                hold: None,
            },
        }
    }

    /// The upstream's body.
    pub fn upstream(body: Incoming, tail: Tail) -> Self {
        Self::begin(Source::Upstream(body), tail)
    }

    fn begin(source: Source, tail: Tail) -> Self {
        let mut this = Self {
            source,
            tail: Some(Box::new(tail)),
            hold: None,
        };
        if this.is_end_stream() {
            this.ended();
        } else {
            this.unread(true);
        }
        this
    }

    /// Notes whether the client's side has yet to ask for more.
    fn unread(&self, unread: bool) {
        if let Some(tail) = &self.tail {
            tail.exchange.unread(unread);
        }
    }

    /// A clean end: the connection may serve again, if the request is through as well.
    fn ended(&mut self) {
        let Some(tail) = &mut self.tail else { return };
        let through = tail
            .watchdog
            .as_ref()
            .is_none_or(|watchdog| watchdog.activity().is_request_received());
        match tail.lease.take() {
            Some(lease) if through => lease.finish(),
            _ => {}
        }
        tail.exchange.completed();
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let Some(tail) = &mut self.tail else { return };
        if let Some(data) = frame.data_ref() {
            tail.exchange.add_bytes(data.remaining());
        }
        if let Some(watchdog) = &tail.watchdog {
            watchdog.activity().touch();
        }
    }

    fn waiting(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.poll_ended(cx).is_ready() {
            return Poll::Ready(Some(Err(self.break_off(ENDED))));
        }
        let Some(watchdog) = self.tail.as_mut().and_then(|tail| tail.watchdog.as_mut()) else {
            return Poll::Pending;
        };
        let expired = std::task::ready!(watchdog.poll_expired(cx));
        Poll::Ready(Some(Err(self.break_off(expired.details()))))
    }

    fn break_off(&mut self, details: &'static str) -> BoxError {
        if let Some(tail) = &mut self.tail {
            tail.exchange.broke_off(details);
            tail.lease = None;
        }
        details.into()
    }

    /// Ready when the upstream's answer may not go on: its route is gone, or those who get it lost it.
    fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<()> {
        let (Source::Upstream(_), Some(tail)) = (&self.source, &self.tail) else {
            return Poll::Pending;
        };
        if self.hold.is_none() && tail.exchange.age() >= MOMENT {
            self.hold = tail.exchange.hold().map(Box::new);
        }
        self.hold
            .as_ref()
            .map_or(Poll::Pending, |hold| hold.poll_ended(cx))
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
        this.unread(false);
        let polled = match &mut this.source {
            Source::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Boxed(body) => Pin::new(body).poll_frame(cx),
            Source::Unary(body) => Pin::new(body).poll_frame(cx),
            Source::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
        };
        match polled {
            Poll::Pending => this.waiting(cx),
            Poll::Ready(None) => {
                this.ended();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.note(&frame);
                this.unread(true);
                if this.is_end_stream() {
                    this.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(tail) = &mut this.tail {
                    tail.exchange.broke_off("upstream_reset_after_response_started");
                    tail.lease = None;
                }
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Full(bytes) => bytes.is_none(),
            Source::Boxed(body) => body.is_end_stream(),
            Source::Unary(body) => body.is_end_stream(),
            Source::Upstream(body) => body.is_end_stream(),
        }
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
