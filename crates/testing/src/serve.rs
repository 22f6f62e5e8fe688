//! The little HTTP server under the upstreams and the scripted identity provider.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// An error of any kind.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A response body of any kind.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A running server; ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

/// Serves HTTP/1.1 and HTTP/2 on a free port of 127.0.0.1, over TLS when `tls` is given.
pub(crate) async fn serve<H, F>(tls: Option<rustls::ServerConfig>, handler: H) -> Result<Server>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    serve_at("127.0.0.1:0", tls, handler).await
}

/// The same at `address`.
pub(crate) async fn serve_at<H, F>(
    address: &str,
    tls: Option<rustls::ServerConfig>,
    handler: H,
) -> Result<Server>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    accept(address, move |stream| {
        let handler = handler.clone();
        let tls = tls
            .clone()
            .map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        async move {
            match tls {
                None => connection(stream, handler).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, handler).await;
                    }
                }
            }
        }
    })
    .await
}

/// Accepts connections on `address`; connections still open end with the server.
pub(crate) async fn accept<H, F>(address: &str, handler: H) -> Result<Server>
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            connections.spawn(handler(stream));
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(Server {
        address,
        _task: AbortOnDropHandle::new(task),
    })
}

async fn connection<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().preserve_header_case(true);
    // How a connection ends is the business of the test, not of the stub.
    let _ = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

/// A body that is there at once.
pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A response with a type and a body.
pub(crate) fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(full(body))
        .unwrap()
}

/// A JSON response.
pub(crate) fn json(value: &serde_json::Value) -> Response<Body> {
    answer(200, "application/json", value.to_string())
}
