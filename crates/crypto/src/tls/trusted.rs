//! Servers whose very certificate is trusted: one that signed itself as an authority, or a single one that was given
//! without its authority. The usual verifier takes trusted certificates for issuers only.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Takes what the usual verifier takes, and the trusted certificates themselves: with their dates, for the names in
/// them.
#[derive(Debug)]
pub struct OrTrusted {
    usual: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl OrTrusted {
    /// `roots` are the authorities; `trusted` those certificates among them that somebody has configured. Those of the
    /// system issue, and nothing else.
    ///
    /// # Errors
    /// When there are no roots.
    pub fn new(
        roots: Arc<RootCertStore>,
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let usual = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        Ok(Self {
            usual: usual.map_err(|error| Error::General(error.to_string()))?,
            trusted,
        })
    }

    fn is_trusted(&self, certificate: &CertificateDer<'_>) -> bool {
        self.trusted
            .iter()
            .any(|trusted| trusted.as_ref() == certificate.as_ref())
    }
}

/// The settings of a client that trusts the certificates of the system as authorities, and those that were configured
/// as they are. It offers these protocols.
///
/// # Errors
/// When one of `configured` is broken, or when there is none at all.
pub fn trusting_client(
    system: Vec<CertificateDer<'static>>,
    configured: Vec<CertificateDer<'static>>,
    protocols: &[&str],
) -> Result<ClientConfig, Error> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system);
    for certificate in &configured {
        roots.add(certificate.clone())?;
    }
    let verifier = OrTrusted::new(Arc::new(roots), configured, provider.clone())?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

impl ServerCertVerifier for OrTrusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.is_trusted(certificate) {
            return self
                .usual
                .verify_server_cert(certificate, intermediates, name, ocsp, now);
        }
        // Without other certificates in between, whose faults are of no account.
        match self.usual.verify_server_cert(certificate, &[], name, ocsp, now) {
            Err(Error::InvalidCertificate(reason)) if concerns_issuer(&reason) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether a certificate was refused for whose it is, which is known of one that is trusted itself. The dates were in
/// order then: the library looks at them first.
fn concerns_issuer(reason: &CertificateError) -> bool {
    match reason {
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => true,
        other => is_authority(other),
    }
}

/// Whether a server shows the certificate of an authority as its own.
fn is_authority(reason: &CertificateError) -> bool {
    is(reason, &webpki::Error::CaUsedAsEndEntity)
}

/// Whether it is this reason of the library's.
fn is(reason: &CertificateError, error: &webpki::Error) -> bool {
    match reason {
        CertificateError::Other(other) => other.0.downcast_ref::<webpki::Error>() == Some(error),
        _ => false,
    }
}

/// What to do about a server whose certificate was refused, if that is among the causes of `error` and there is
/// something to say. `setting` names where trusted certificates are configured.
#[must_use]
pub fn advice(error: &(dyn std::error::Error + 'static), setting: &str) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return advice_on(reason, setting);
        }
        // The cause that an I/O error tells of is the one behind what it carries.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

fn advice_on(reason: &CertificateError, setting: &str) -> Option<String> {
    let advice = match reason {
        CertificateError::UnknownIssuer => {
            format!("put the authority that issued it, or the certificate itself, into {setting}")
        }
        CertificateError::BadSignature => format!(
            "another one of the same name is in {setting}, or the server's key is too small (RSA: 2048 bits at least)"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server needs a new one".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its subject alternative names count, not its common name".into()
        }
        other if is_authority(other) => format!(
            "it is an authority's own: put this very certificate into {setting}, or give the server one without CA:TRUE"
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its signature is of a kind that is no longer taken: the server needs a new one".into()
        }
        other if is(other, &webpki::Error::UnsupportedCertVersion) => {
            "the server needs one of X.509 version 3".into()
        }
        _ => return None,
    };
    Some(advice)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    const NAMES: [&str; 2] = ["upstream.example.com", "192.0.2.1"];

    fn params(is_ca: bool) -> CertificateParams {
        let mut params = CertificateParams::new(NAMES.map(String::from)).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    fn at(year: i32) -> UnixTime {
        let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap()))
    }

    /// Verifies `shown` where only `trusted` is.
    fn verify(
        trusted: &CertificateDer<'_>,
        shown: &CertificateDer<'_>,
        name: &str,
        year: i32,
    ) -> Result<(), Error> {
        let trusted = trusted.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = OrTrusted::new(Arc::new(roots), vec![trusted], provider).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier
            .verify_server_cert(shown, &[], &name, &[], at(year))
            .map(|_| ())
    }

    /// An authority that serves with its own certificate; one issued by somebody unknown; one that signed itself.
    /// Each with another one for the same key and names.
    fn pairs() -> Vec<[CertificateDer<'static>; 2]> {
        let key = KeyPair::generate().unwrap();
        let mut issuer = params(true);
        issuer
            .distinguished_name
            .push(DnType::CommonName, "somebody else");
        let unknown = Issuer::new(issuer, KeyPair::generate().unwrap());
        let mut other = params(true);
        other.not_after = date_time_ymd(2028, 1, 1);
        let mut other_leaf = params(false);
        other_leaf.not_after = date_time_ymd(2028, 1, 1);
        vec![
            [params(true).self_signed(&key), other.self_signed(&key)],
            [
                params(false).signed_by(&key, &unknown),
                other_leaf.signed_by(&key, &unknown),
            ],
        ]
        .into_iter()
        .map(|pair| pair.map(|certificate| certificate.unwrap().der().clone()))
        .collect()
    }

    #[test]
    fn a_trusted_certificate_serves_for_its_names_and_its_time() {
        for [trusted, other] in pairs() {
            for name in NAMES {
                verify(&trusted, &trusted, name, 2026).unwrap();
            }
            for name in ["else.example.com", "192.0.2.2"] {
                let error = verify(&trusted, &trusted, name, 2026).unwrap_err();
                assert!(error.to_string().contains("not valid for name"), "{error}");
            }
            let early = verify(&trusted, &trusted, NAMES[0], 2025).unwrap_err();
            assert!(early.to_string().contains("not valid yet"), "{early}");
            let late = verify(&trusted, &trusted, NAMES[0], 2027).unwrap_err();
            assert!(late.to_string().contains("expired"), "{late}");
            let error = verify(&trusted, &other, NAMES[0], 2026).unwrap_err();
            let told = advice(&io::Error::other(error), "tls_custom_ca").unwrap();
            assert!(told.contains("into tls_custom_ca"), "{told}");
        }
    }

    #[test]
    fn authorities_issue_as_ever() {
        let key = KeyPair::generate().unwrap();
        let authority = params(true).self_signed(&key).unwrap();
        let issuer = Issuer::new(params(true), key);
        let leaf = params(false).signed_by(&KeyPair::generate().unwrap(), &issuer);
        let leaf = leaf.unwrap().der().clone();
        verify(authority.der(), &leaf, NAMES[0], 2026).unwrap();
        assert!(verify(authority.der(), &leaf, NAMES[0], 2027).is_err());
        assert!(verify(authority.der(), &leaf, "else.example.com", 2026).is_err());
    }
}
