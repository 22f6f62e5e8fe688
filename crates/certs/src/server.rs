//! The TLS settings of our listeners (spec proxy.md 1.2, config.md 16).

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use crate::client::Demand;
use crate::store::CertStore;

/// Strongest first; ECDSA and RSA have the same three.
const SUITES: [SupportedCipherSuite; 9] = [
    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Which HTTP versions the handshake offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alpn {
    /// HTTP/2, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// HTTP/3 only, over QUIC: TLS 1.3 and nothing older.
    Http3,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
            Self::Http3 => vec![b"h3".to_vec()],
        }
    }
}

/// TLS 1.2 and 1.3 with certificates from `store`, the server's order of cipher suites, and session tickets
/// whose keys live in memory and change every six hours. No early data: a replayed request is a request.
///
/// # Errors
/// When the cryptographic library cannot set up; not expected.
pub fn server_config(store: Arc<CertStore>, alpn: Alpn) -> Result<ServerConfig, rustls::Error> {
    server_config_asking(store, alpn, None)
}

/// As [`server_config`], asking clients for a certificate where there is a demand. Its ticket keys are its own: a
/// session begun under one configuration is not resumed under another.
///
/// # Errors
/// When the cryptographic library cannot set up; not expected.
pub fn server_config_asking(
    store: Arc<CertStore>,
    alpn: Alpn,
    demand: Option<&Arc<Demand>>,
) -> Result<ServerConfig, rustls::Error> {
    server_config_with(store, alpn, demand.map(|demand| demand.verifier()))
}

/// As [`server_config`], with whatever judges the certificates of clients.
pub(crate) fn server_config_with(
    store: Arc<CertStore>,
    alpn: Alpn,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        ..aws_lc_rs::default_provider()
    };
    let versions: &[&SupportedProtocolVersion] = match alpn {
        Alpn::Http3 => &[&TLS13],
        _ => &[&TLS13, &TLS12],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
    let mut config = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    }
    .with_cert_resolver(store);
    config.ignore_client_order = true;
    config.alpn_protocols = alpn.protocols();
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
