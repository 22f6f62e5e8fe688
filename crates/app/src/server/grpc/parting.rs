//! How calls end when the process does: those that are under way are answered, streams that have nothing more to say
//! end with UNAVAILABLE.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response, header::CONTENT_TYPE};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

/// Of gRPC itself; in its dialects for browsers every answer is there as a whole.
const GRPC: [&[u8]; 2] = [b"application/grpc", b"application/grpc+proto"];

/// `response`, whose stream ends at `stop` as soon as there is nothing in it to send.
pub(super) fn until(stop: &CancellationToken, response: Response<Body>) -> Response<Body> {
    let kind = response.headers().get(CONTENT_TYPE);
    if !kind.is_some_and(|kind| GRPC.contains(&kind.as_bytes())) || response.body().is_end_stream() {
        return response;
    }
    response.map(|inner| {
        Body::new(Ending {
            inner,
            stop: stop.clone(),
            stopped: None,
            over: false,
        })
    })
}

struct Ending {
    inner: Body,
    stop: CancellationToken,
    /// Only waited for once there was nothing to send: most answers are there at once.
    stopped: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    over: bool,
}

impl hyper::body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let stop = &this.stop;
        let stopped = this
            .stopped
            .get_or_insert_with(|| Box::pin(stop.clone().cancelled_owned()));
        if stopped.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.over = true;
        Poll::Ready(Some(Ok(Frame::trailers(farewell()))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn farewell() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Never refused: the text is plain.
    let _ = Status::unavailable("this process is stopping").add_header(&mut trailers);
    trailers
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use http_body_util::channel::Channel;

    use super::*;

    fn answer(kind: &str, body: Channel<Bytes, Status>, stop: &CancellationToken) -> Body {
        let response = Response::builder().header(CONTENT_TYPE, kind);
        until(stop, response.body(Body::new(body)).unwrap()).into_body()
    }

    #[tokio::test]
    async fn what_is_there_is_sent_and_then_the_stream_ends() {
        let stop = CancellationToken::new();
        let (mut sender, body) = Channel::new(1);
        let mut body = answer("application/grpc", body, &stop);
        sender.send_data(Bytes::from_static(b"last words")).await.unwrap();
        stop.cancel();
        let words = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(words, "last words");
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_of_another_kind_is_left_alone() {
        let stop = CancellationToken::new();
        let (mut sender, body) = Channel::new(1);
        let body = answer("application/json", body, &stop);
        stop.cancel();
        sender.send_data(Bytes::from_static(b"{}")).await.unwrap();
        drop(sender);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
    }
}
