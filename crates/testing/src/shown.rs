//! What a TLS server shows in its handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

/// A look at a server's certificate; nothing about it makes the look fail.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Server certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The stapled OCSP response; empty without one.
    pub staple: Vec<u8>,
    /// Whether the given root vouches for the certificate, for the name asked for, at this time.
    pub trusted: bool,
    /// Why it does not; empty when it does.
    pub doubt: String,
}

/// Looks at what `address` shows for `name`; `root_pem` decides about trust.
///
/// # Errors
/// Nobody listens, or there is no handshake at all.
pub async fn shown(address: SocketAddr, name: &str, root_pem: &str) -> Result<Shown> {
    crate::install_crypto_provider();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).context("the root")?)?;
    let looker = Arc::new(Looker {
        verifier: WebPkiServerVerifier::builder(Arc::new(roots)).build()?,
        seen: Mutex::default(),
    });
    let mut config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&looker) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server_name = ServerName::try_from(name.to_owned())?;
    let socket = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(server_name, socket)
        .await?;
    looker.seen.lock().take().context("no certificate was shown")
}

#[derive(Debug)]
struct Looker {
    verifier: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<Shown>>,
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self
            .verifier
            .verify_server_cert(end_entity, intermediates, server_name, &[], now);
        let rest = intermediates
            .iter()
            .map(|certificate| certificate.clone().into_owned());
        *self.seen.lock() = Some(Shown {
            chain: std::iter::once(end_entity.clone().into_owned())
                .chain(rest)
                .collect(),
            staple: ocsp_response.to_vec(),
            trusted: verdict.is_ok(),
            doubt: verdict.err().map(|error| error.to_string()).unwrap_or_default(),
        });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Only TLS 1.3 is looked at.
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
