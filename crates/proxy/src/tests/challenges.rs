//! What a certificate authority sees when it looks for a challenge (RFC 8555 section 8.3, RFC 8737).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::*;

const NAME: &str = "app.example.com";

/// As an authority does: the certificate is self-signed and has a critical extension of its own.
#[derive(Debug)]
struct LooksOnly;

impl ServerCertVerifier for LooksOnly {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}

async fn proxy() -> Proxy {
    let mut config = settings("", &public(nobody().await, ""));
    config.listener.insecure = false;
    config.listener.redirect_address = Some("127.0.0.1:0".into());
    let store = generated_certificate();
    Proxy::with(&config, Vec::new(), store).await
}

async fn look(proxy: &Proxy, name: &'static str, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(LooksOnly))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(proxy.addr).await.unwrap();
    connector.connect(name.try_into().unwrap(), socket).await
}

#[tokio::test]
async fn a_name_in_flight_shows_its_challenge_and_the_connection_ends() {
    let proxy = proxy().await;
    let offered = proxy.shared.challenges.offer_tls(NAME, &[7; 32]).unwrap();
    let mut stream = look(&proxy, NAME, &[b"acme-tls/1"]).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert!(
        shown.windows(32).any(|window| window == [7; 32]),
        "the digest is in it"
    );
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let _ = stream
        .write_all(b"GET / HTTP/1.1\r\nhost: app.example.com\r\n\r\n")
        .await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "no request is answered here");

    assert!(look(&proxy, "other.example.com", &[b"acme-tls/1"]).await.is_err());
    let usual = look(&proxy, NAME, &[b"acme-tls/1", b"http/1.1"]).await.unwrap();
    assert_eq!(usual.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_ne!(usual.get_ref().1.peer_certificates().unwrap()[0], shown);
    drop(offered);
    assert!(
        look(&proxy, NAME, &[b"acme-tls/1"]).await.is_err(),
        "the order has ended"
    );
}

async fn ask(proxy: &Proxy, request: &str) -> String {
    let mut socket = TcpStream::connect(proxy.plane.redirect_addrs()[0]).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_plain_listener_answers_tokens_in_flight_and_redirects_the_rest() {
    let proxy = proxy().await;
    let get = |host: &str, token: &str| {
        format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nhost: {host}\r\n\r\n")
    };
    let offered = proxy.shared.challenges.offer_http(NAME, "token", "token.thumb");
    let answer = ask(&proxy, &get("app.example.com:80", "token")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ntoken.thumb"),
        "{answer}"
    );
    for (host, token) in [(NAME, "other"), ("other.example.com", "token"), (NAME, "")] {
        let answer = ask(&proxy, &get(host, token)).await;
        assert!(
            answer.starts_with("HTTP/1.1 301 ") && !answer.contains("thumb"),
            "{answer}"
        );
    }
    drop(offered);
    assert!(
        ask(&proxy, &get(NAME, "token"))
            .await
            .starts_with("HTTP/1.1 301 ")
    );
}
