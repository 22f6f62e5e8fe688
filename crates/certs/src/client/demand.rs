//! Asking for a client certificate in a handshake.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{CertificateNames, ClientChain, ClientTrust, Flaw, Verdict};

/// What a handshake asks of a client: a certificate by one of these authorities, at once (`strict`) or for requests
/// to be judged by.
#[derive(Debug)]
pub struct Demand {
    trust: Arc<ClientTrust>,
    strict: bool,
    hints: Vec<DistinguishedName>,
}

impl Demand {
    /// A demand. `strict`: without a valid certificate there is no connection.
    #[must_use]
    pub fn new(trust: Arc<ClientTrust>, strict: bool) -> Self {
        Self {
            hints: trust.anchors().hints(),
            trust,
            strict,
        }
    }

    /// The authorities asked for, and the rules.
    #[must_use]
    pub fn trust(&self) -> &Arc<ClientTrust> {
        &self.trust
    }

    /// Whether the handshake itself judges.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Whether both ask for the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.strict == other.strict && self.trust.id() == other.trust.id()
    }

    /// Whether a client that was asked for this could also have answered `other`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.trust.anchors().contain(other.trust.anchors())
    }

    /// The part of a TLS configuration that asks for this.
    pub(crate) fn verifier(self: &Arc<Self>) -> Arc<dyn ClientCertVerifier> {
        self.gate(None)
    }

    fn gate(self: &Arc<Self>, refused: Option<Refused>) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Gate {
            demand: Arc::clone(self),
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
            refused,
        })
    }

    /// `base`, which asks for this, for one connection: a certificate it refuses is noted in the slot beside it.
    ///
    /// # Errors
    /// When the cryptographic library cannot set up; not expected.
    pub fn noting(self: &Arc<Self>, base: &ServerConfig) -> Result<(ServerConfig, Refused), rustls::Error> {
        let slot = Refused::default();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(base.crypto_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(self.gate(Some(Arc::clone(&slot))))
            .with_cert_resolver(Arc::clone(&base.cert_resolver));
        config.ignore_client_order = base.ignore_client_order;
        config.alpn_protocols.clone_from(&base.alpn_protocols);
        config.ticketer = Arc::clone(&base.ticketer);
        config.session_storage = Arc::clone(&base.session_storage);
        Ok((config, slot))
    }
}

/// Where a strict handshake leaves the certificate it refused.
pub type Refused = Arc<Mutex<Option<RefusedChain>>>;

/// A certificate that a strict handshake refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedChain {
    /// Whose it was.
    pub names: CertificateNames,
    /// Why.
    pub flaw: Flaw,
}

/// Asks, and judges where the demand is strict. That the client has the key of its certificate is checked always.
#[derive(Debug)]
struct Gate {
    demand: Arc<Demand>,
    algorithms: WebPkiSupportedAlgorithms,
    refused: Option<Refused>,
}

impl ClientCertVerifier for Gate {
    fn client_auth_mandatory(&self) -> bool {
        self.demand.strict
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.demand.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if !self.demand.strict {
            return Ok(ClientCertVerified::assertion());
        }
        let presented: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .cloned()
            .collect();
        let Some(chain) = ClientChain::new(&presented) else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match self.demand.trust.verify(&chain, now) {
            Verdict::Valid => Ok(ClientCertVerified::assertion()),
            Verdict::Invalid(flaw) => {
                if let Some(slot) = &self.refused {
                    *slot.lock() = Some(RefusedChain {
                        names: chain.names(),
                        flaw,
                    });
                }
                Err(flaw.into_tls())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
