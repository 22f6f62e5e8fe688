//! gRPC: trailers pass, over TLS and over clear HTTP/2 upstream.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Request;
use pomerium_testing::{Authority, Environment, Route, Upstream};

/// One call over HTTP/2; the body's bytes and the trailers.
async fn call(env: &Environment, message: &'static [u8]) -> Result<(Vec<u8>, http::HeaderMap)> {
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(env.address()).await?;
    let name = rustls::pki_types::ServerName::try_from("open.example.com")?;
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, stream)
        .await?;
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::post(env.url("open", "/echo.Echo/Unary"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(message), true)?;
    let response = response.await?;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        bytes.extend_from_slice(&part?);
    }
    let trailers = body.trailers().await?.context("no trailers")?;
    Ok((bytes, trailers))
}

#[tokio::test]
async fn a_call_comes_back_with_its_trailers() -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let authority = Authority::new()?;
    let message = b"\x00\x00\x00\x00\x05hello";
    let plain = Upstream::start().await?;
    let tls = Upstream::start_tls(&authority, &["127.0.0.1"], true).await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("ca.pem"), authority.pem())?;
    for (upstream, url) in [(&plain, plain.h2c_url()), (&tls, tls.url())] {
        let ca = folder.path().join("ca.pem").display().to_string();
        let route = Route::new("open", &url).public().set("tls_custom_ca_file", ca);
        let env = Environment::builder()?.route(route).start().await?;
        let (bytes, trailers) = call(&env, message).await.with_context(|| url.clone())?;
        assert_eq!(bytes, message);
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["echo-bin"], "AP8K");
        assert_eq!(upstream.requests()[0].version, "HTTP/2.0");
        assert_eq!(upstream.requests()[0].header("te"), Some("trailers"));
    }
    Ok(())
}
