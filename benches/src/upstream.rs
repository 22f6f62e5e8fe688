//! The upstream of every row, HTTP/1.1: 100 bytes with the same headers for everyone; `/bytes/N` is a body
//! of N bytes; an upgrade is answered and echoed.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

static BODY: [u8; 100] = [b'x'; 100];
static PIECE: [u8; 64 * 1024] = [b'y'; 64 * 1024];

type Body = BoxBody<Bytes, Infallible>;

/// Serves on a free port of 127.0.0.1 and prints it.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
            // A proxy that drops its connections at the end is not an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    if request.headers().contains_key(header::UPGRADE) {
        return switch(request);
    }
    let size = request
        .uri()
        .path()
        .strip_prefix("/bytes/")
        .and_then(|size| size.parse().ok());
    if request.method() == http::Method::POST {
        // Read and forgotten; what it was is not the point.
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }
    let mut response = Response::new(match size {
        Some(size) => many(size),
        None => Full::new(Bytes::from_static(&BODY)).boxed(),
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(size) = size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    response
}

/// A body of `size` bytes, made while it is sent.
fn many(size: u64) -> Body {
    let pieces = stream::unfold(size, |left| async move {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE.len());
        (next > 0).then(|| {
            (
                Frame::data(Bytes::from_static(&PIECE[..next])),
                left - next as u64,
            )
        })
    });
    BodyExt::boxed(StreamBody::new(pieces.map(Ok)))
}

/// Whatever is asked for is agreed to; what comes is sent back.
fn switch(request: Request<Incoming>) -> Response<Body> {
    let protocol = request.headers().get(header::UPGRADE).cloned();
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
    response
}
