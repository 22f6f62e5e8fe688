//! TLS to upstreams: trust, names, client certificates (spec proxy.md 6.2).

use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use pomerium_certs::name_pattern::{NamePattern, PatternError};
use pomerium_crypto::tls::{AnyCertificate, OrTrusted};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::endpoint::TlsSpec;

/// TLS settings of an upstream that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text holds no usable certificate or key.
    #[error("{what} of the upstream cannot be read: {detail}")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The server name is neither a DNS name nor an address.
    #[error("{0:?} is no server name")]
    ServerName(String),
    /// The TLS library refuses the combination.
    #[error("TLS to the upstream cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    /// The server name with `*` cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// The default trust: the system's roots (the built-in bundle where a machine has none) and the extra ones.
/// Read once, on first use.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    pub(crate) extra: Vec<u8>,
    store: OnceLock<Arc<RootCertStore>>,
}

impl Roots {
    pub(crate) fn new(extra: &[u8]) -> Self {
        Self {
            extra: extra.to_vec(),
            store: OnceLock::new(),
        }
    }

    fn extra(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(&self.extra, "certificate_authority")
    }

    fn store(&self) -> Result<Arc<RootCertStore>, TlsError> {
        if let Some(store) = self.store.get() {
            return Ok(store.clone());
        }
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        add_all(&mut store, &self.extra()?, "certificate_authority")?;
        Ok(self.store.get_or_init(|| Arc::new(store)).clone())
    }
}

fn add_all(
    store: &mut RootCertStore,
    certificates: &[CertificateDer<'static>],
    what: &'static str,
) -> Result<(), TlsError> {
    for certificate in certificates {
        store
            .add(certificate.clone())
            .map_err(|error| pem_error(what, error))?;
    }
    Ok(())
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| pem_error(what, error))
}

fn pem_error(what: &'static str, error: impl std::fmt::Display) -> TlsError {
    TlsError::Pem {
        what,
        detail: error.to_string(),
    }
}

/// The name that is sent and verified; for a pattern, the destination's host is sent.
pub(crate) fn server_name(name: &str, fallback: &str) -> Result<ServerName<'static>, TlsError> {
    let name = if name.contains('*') { fallback } else { name };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

/// The client configuration of a kind of upstream.
pub(crate) fn client_config(spec: &TlsSpec, roots: &Roots) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier(spec, roots, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &spec.client_chain {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = certificates(chain, "tls_client_cert")?;
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|error| pem_error("tls_client_key", error))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = if spec.http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Arc::new(config))
}

fn verifier(
    spec: &TlsSpec,
    roots: &Roots,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if spec.skip_verify {
        return Ok(Arc::new(AnyCertificate(provider.clone())));
    }
    let (store, trusted) = match &spec.custom_ca {
        None => (roots.store()?, roots.extra()?),
        Some(pem) => {
            let trusted = certificates(pem, "tls_custom_ca")?;
            let mut store = RootCertStore::empty();
            add_all(&mut store, &trusted, "tls_custom_ca")?;
            (Arc::new(store), trusted)
        }
    };
    let inner = OrTrusted::new(store, trusted, provider.clone())
        .map(Arc::new)
        .map_err(|error| pem_error("tls_custom_ca", error))?;
    Ok(match NamePattern::of(&spec.server_name) {
        Some(pattern) => Arc::new(pattern?.verified_by(inner)),
        None => inner,
    })
}

/// Says what to do about a certificate that was refused, for the log.
pub(super) struct Advice<'a>(pub(super) &'a io::Error);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match pomerium_crypto::tls::advice(self.0, "tls_custom_ca or certificate_authority") {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// A client configuration that believes any certificate and offers one protocol; for tests, which
/// know whom they talk to.
#[cfg(test)]
pub(crate) fn unverified_client_config(alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let spec = TlsSpec {
        skip_verify: true,
        server_name: String::new(),
        sni_fallback: String::new(),
        custom_ca: None,
        client_chain: None,
        http2: false,
    };
    let mut config = (*client_config(&spec, &Roots::default())?).clone();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}
