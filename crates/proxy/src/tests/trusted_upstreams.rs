//! Upstreams that show a certificate which is trusted itself.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::*;

/// An upstream with a certificate that signed itself as an authority, and that certificate.
async fn own_authority() -> (SocketAddr, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["ledger.example.com".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else {
                    return;
                };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
                let _ = stream.read(&mut request).await;
            });
        }
    });
    (address, certificate.pem())
}

#[tokio::test]
async fn the_certificate_given_as_authority_may_be_the_upstreams_own() {
    let (address, pem) = own_authority().await;
    let (_, another) = own_authority().await;
    for (trusted, name, status) in [
        (&pem, "ledger.example.com", 200),
        (&pem, "\"*.example.com\"", 200),
        (&pem, "else.example.com", 503),
        (&another, "ledger.example.com", 503),
    ] {
        let authority = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(authority.path(), trusted).unwrap();
        let file = authority.path().display();
        let tls = format!("    tls_upstream_server_name: {name}\n    tls_custom_ca_file: {file}\n");
        let routes = public(address, &tls).replace("to: http:", "to: https:");
        let proxy = Proxy::start(&settings("", &routes)).await;
        assert_eq!(proxy.get("/", "").await.status, status, "{name}");
        let global = format!("certificate_authority_file: {file}");
        let routes = routes.replace(&format!("    tls_custom_ca_file: {file}\n"), "");
        let proxy = Proxy::start(&settings(&global, &routes)).await;
        assert_eq!(proxy.get("/", "").await.status, status, "{name}");
    }
}
