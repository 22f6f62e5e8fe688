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
#[derive(Debug)]
pub struct RequestBody {
    inner: Option<ClientBody>,
    activity: Arc<Activity>,
}

impl RequestBody {
    /// Wraps the client's body.
    pub fn new(inner: ClientBody, activity: Arc<Activity>) -> Self {
        let inner = (!inner.is_end_stream()).then_some(inner);
        Self { inner, activity }
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
        let ended = frame.is_none() || inner.is_end_stream();
        self.activity.touch();
        if ended {
            self.activity.request_received();
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
