//! A request of a probe and its answer, over HTTP/1.1 or HTTP/2.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::task::AbortOnDropHandle;

use super::{MAX_ANSWER, Prober};

/// Largest header block of an answer, in bytes.
const MAX_HEADERS: u32 = 64 * 1024;

/// A connection for probes. Dropping it closes it.
pub(super) struct Sender {
    kind: Kind,
    _connection: AbortOnDropHandle<()>,
}

enum Kind {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An answer, as far as it was read.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    /// Nothing of the body was left out: the connection may serve again.
    pub(super) whole: bool,
}

impl Sender {
    pub(super) async fn connect(prober: &Prober, http2: bool) -> Result<Self, String> {
        let stream = prober.dial().await.map_err(|error| error.to_string())?;
        let stream = TokioIo::new(stream);
        if http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(MAX_HEADERS)
                .handshake(stream)
                .await
                .map_err(|error| error.to_string())?;
            return Ok(Self {
                kind: Kind::Http2(sender),
                _connection: AbortOnDropHandle::new(tokio::spawn(async {
                    let _ = connection.await;
                })),
            });
        }
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEADERS as usize)
            .max_buf_size(2 * MAX_HEADERS as usize)
            .handshake(stream)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self {
            kind: Kind::Http1(sender),
            _connection: AbortOnDropHandle::new(tokio::spawn(async {
                let _ = connection.await;
            })),
        })
    }

    /// Whether the connection takes another request.
    pub(super) async fn is_ready(&mut self) -> bool {
        match &mut self.kind {
            Kind::Http1(sender) => sender.ready().await.is_ok(),
            Kind::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and reads its answer, at most [`MAX_ANSWER`] bytes of the body.
    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let response = match &mut self.kind {
            Kind::Http1(sender) => sender.send_request(request).await?,
            Kind::Http2(sender) => sender.send_request(request).await?,
        };
        read(response).await
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    let mut trailers = None;
    let mut whole = true;
    while let Some(frame) = incoming.frame().await.transpose()? {
        match frame.into_data() {
            Ok(data) => {
                let room = MAX_ANSWER - body.len();
                whole = data.len() <= room;
                body.extend_from_slice(data.get(..room).unwrap_or(&data));
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if !whole {
            break;
        }
    }
    Ok(Answer {
        head,
        body: body.freeze(),
        trailers,
        whole,
    })
}

/// Asks over the kept connection, or over a new one when there is none or it turns out to be gone.
pub(super) async fn ask(
    prober: &Prober,
    http2: bool,
    kept: super::Kept,
    request: &Request<Full<Bytes>>,
) -> Result<(Answer, Sender), String> {
    if let super::Kept::Http(mut sender) = kept
        && sender.is_ready().await
        && let Ok(answer) = sender.ask(request.clone()).await
    {
        return Ok((answer, sender));
    }
    let mut sender = Sender::connect(prober, http2).await?;
    if !sender.is_ready().await {
        return Err("the connection closed before the request was sent".into());
    }
    let answer = sender
        .ask(request.clone())
        .await
        .map_err(|error| reason(&error))?;
    Ok((answer, sender))
}

/// The error with what is behind it: the library's own words alone say little.
fn reason(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
