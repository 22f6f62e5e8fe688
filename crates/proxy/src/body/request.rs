//! The request body on its way to the upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pomerium_web::body::BoxError;

use super::client::ClientBody;
use super::timing::Activity;

/// Streams the client's body; notes progress and the end.
///
/// Trailers end here, except on their way to a gRPC server: nobody has judged or cleaned them, and some servers take them
/// for headers.
#[derive(Debug)]
pub struct RequestBody {
    inner: Option<ClientBody>,
    activity: Arc<Activity>,
    trailers: bool,
}

impl RequestBody {
    /// Wraps the client's body; `trailers` pass or end here.
    pub fn new(inner: ClientBody, activity: Arc<Activity>, trailers: bool) -> Self {
        let inner = (!inner.is_end_stream()).then_some(inner);
        Self {
            inner,
            activity,
            trailers,
        }
    }

    /// Trailers end here after all.
    pub fn without_trailers(&mut self) {
        self.trailers = false;
    }

    /// The same body once more, if there is none: a body can be sent only once.
    pub fn again(&self) -> Option<Self> {
        self.inner.is_none().then(|| Self::empty(self.activity.clone()))
    }

    /// No body.
    pub fn empty(activity: Arc<Activity>) -> Self {
        Self {
            inner: None,
            activity,
            trailers: false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(&mut *inner).poll_frame(cx));
        let last = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        let ended = frame.is_none() || last || inner.is_end_stream();
        self.activity.touch();
        if ended {
            self.activity.request_received();
        }
        if last && !self.trailers {
            self.inner = None;
            return Poll::Ready(None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(ClientBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), ClientBody::size_hint)
    }
}
