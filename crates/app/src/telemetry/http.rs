//! A small HTTP/1.1 server for the health and metrics listeners: short answers from memory, a header
//! timeout, a bound on connections. Requests of people never come here.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::accept::{self, Door};

/// An answer held in memory.
pub type Answer = Response<Bytes>;

/// Probes and scrapers need few.
const DOOR: Door = Door {
    name: "health and metrics",
    most: 64,
    parting: Duration::ZERO,
};
/// Longest wait for a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A plain-text answer.
pub fn text(status: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    answer
}

/// Serves `handler` on `listener` until `stop`; each connection over the TLS that `tls` has for it at that time,
/// plain where it has none.
pub async fn serve<T, H>(listener: TcpListener, tls: T, stop: CancellationToken, handler: H)
where
    T: Fn() -> Option<TlsAcceptor> + Send,
    H: Fn(&Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
{
    let served = move |stream| {
        let (acceptor, handler) = (tls(), handler.clone());
        async move {
            let Some(acceptor) = acceptor else {
                return connection(stream, handler).await;
            };
            if let Some(stream) = accept::secured(DOOR, stream, &acceptor, HEADER_TIMEOUT).await {
                connection(stream, handler).await;
            }
        }
    };
    accept::serve(DOOR, listener, stop, served).await;
}

async fn connection<S, H>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(&Request<Incoming>) -> Answer,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answer = handler(&request).map(Full::new);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "connection ended");
    }
}

/// Binds a listener for [`serve`]. An empty host means every address.
pub async fn bind(address: &str) -> std::io::Result<TcpListener> {
    match address.strip_prefix(':') {
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
        None => TcpListener::bind(address).await,
    }
}
