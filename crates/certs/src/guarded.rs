//! TLS of listeners for programs rather than people: one certificate, and where wanted, clients that must show one of
//! a given authority.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use crate::load::LoadedCertificate;
use crate::server::{Alpn, server_config};
use crate::store::CertStore;

/// Why there are no TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The cryptographic library cannot set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// A PEM block cannot be read.
    #[error("a PEM block cannot be read: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// A certificate that cannot be a trust anchor. One that is left out would refuse clients without a reason.
    #[error("a certificate cannot be a trust anchor: {0}")]
    Anchor(rustls::Error),
    /// An empty bundle must never count as none wanted.
    #[error("it holds no certificate")]
    Empty,
    /// The verifier cannot be made.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
}

/// TLS with `certificate`. With `client_ca` (PEM), clients must show a certificate of one of its authorities, on each
/// connection: there are no tickets then.
///
/// # Errors
/// The bundle cannot be used whole, or the cryptographic library cannot set up.
pub fn guarded_server_config(
    certificate: LoadedCertificate,
    client_ca: Option<&[u8]>,
    alpn: Alpn,
) -> Result<ServerConfig, GuardError> {
    let store = Arc::new(CertStore::new(vec![certificate]));
    let plain = server_config(Arc::clone(&store), alpn)?;
    let Some(pem) = client_ca else {
        return Ok(plain);
    };
    let provider = Arc::clone(plain.crypto_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), Arc::clone(&provider)).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(store);
    config.ignore_client_order = plain.ignore_client_order;
    config.alpn_protocols = plain.alpn_protocols;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, GuardError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?).map_err(GuardError::Anchor)?;
    }
    if roots.is_empty() {
        return Err(GuardError::Empty);
    }
    Ok(roots)
}
