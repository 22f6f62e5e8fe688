//! TLS between the services of one installation.
//!
//! The listener shows the server certificates of the configuration. With mutual TLS each side also shows a
//! certificate of the authority that comes from the shared secret, so that no files have to be carried around.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::derived::DerivedAuthority;
use crate::make::MakeError;
use crate::name_pattern::NamePattern;
use crate::server::{self, Alpn};
use crate::store::CertStore;

/// Why TLS between services cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A root cannot be read.
    #[error("certificate_authority: {0}")]
    Root(String),
    /// The certificate that a service shows could not be made.
    #[error("the certificate of this service: {0}")]
    Own(#[from] MakeError),
    /// The TLS library refuses.
    #[error("TLS between services: {0}")]
    Tls(#[from] rustls::Error),
    /// The TLS library refuses the authority of the other side.
    #[error("TLS between services: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// For the listener: certificates from `store`, HTTP/2 or HTTP/1.1. With `mutual`, only clients with a certificate of
/// that authority get in.
///
/// # Errors
/// [`ServicesError`]; not expected.
pub fn listener(
    store: Arc<CertStore>,
    mutual: Option<&DerivedAuthority>,
) -> Result<ServerConfig, ServicesError> {
    let verifier = match mutual {
        None => None,
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            add(&mut roots, authority.ca_pem().as_bytes())?;
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            Some(builder.build()?)
        }
    };
    Ok(server::server_config_with(store, Alpn::Auto, verifier)?)
}

/// For clients: trusts the roots of the system and those of `roots_pem`, speaks HTTP/2. With a `pattern`, the certificate is
/// for a name that fits it, otherwise for the name that is connected to. With `mutual`, it shows a certificate of that
/// authority.
///
/// # Errors
/// [`ServicesError`] when a root cannot be read.
pub fn client(
    roots_pem: &[u8],
    pattern: Option<NamePattern>,
    mutual: Option<&DerivedAuthority>,
) -> Result<ClientConfig, ServicesError> {
    let mut roots = system_roots();
    add(&mut roots, roots_pem)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let verifier: Arc<dyn ServerCertVerifier> = match pattern {
        Some(pattern) => Arc::new(pattern.verified_by(verifier)),
        None => verifier,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match mutual {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let (chain, key) = authority.client_pem()?;
            let unreadable = |error: rustls_pki_types::pem::Error| ServicesError::Root(error.to_string());
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(unreadable)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unreadable)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Read once: it takes longer than a connection does.
fn system_roots() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    };
    ROOTS.get_or_init(read).clone()
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), ServicesError> {
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| ServicesError::Root(error.to_string()))?;
        roots.add(certificate)?;
    }
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
