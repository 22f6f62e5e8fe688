//! The upstream of every row: 100 bytes, the same headers, HTTP/1.1.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

static BODY: [u8; 100] = [b'x'; 100];

/// Serves on a free port of 127.0.0.1 and prints it.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(|_| async {
                let mut response = Response::new(Full::new(Bytes::from_static(&BODY)));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                Ok::<_, Infallible>(response)
            });
            // A proxy that drops its connections at the end is not an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
