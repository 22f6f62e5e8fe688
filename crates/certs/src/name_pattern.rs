//! Server names with `*` for any text: what a certificate has to be for, where the exact name is not said
//! (`tls_server_name`, `override_certificate_name`; spec proxy.md 6.2).

use std::sync::Arc;

use regex::Regex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A pattern that cannot be used; not expected.
#[derive(Debug, thiserror::Error)]
#[error("the server name pattern cannot be used: {0}")]
pub struct PatternError(#[from] Box<regex::Error>);

/// A server name with `*`.
#[derive(Debug)]
pub struct NamePattern {
    text: String,
    pattern: Regex,
}

impl NamePattern {
    /// The pattern, if `name` is one.
    pub fn of(name: &str) -> Option<Result<Self, PatternError>> {
        name.contains('*').then(|| {
            let quoted: Vec<String> = name.split('*').map(regex::escape).collect();
            let pattern = Regex::new(&format!(r"\A(?i:{})\z", quoted.join(".*"))).map_err(Box::new)?;
            Ok(Self {
                text: name.to_owned(),
                pattern,
            })
        })
    }

    /// A name that fits, for the other side to choose its certificate by.
    #[must_use]
    pub fn example(&self) -> String {
        self.text.replace('*', "example")
    }

    /// A chain that is valid by `inner` for some DNS name of the leaf that fits.
    #[must_use]
    pub fn verified_by(self, inner: Arc<dyn ServerCertVerifier>) -> impl ServerCertVerifier {
        Verified {
            pattern: self.pattern,
            inner,
        }
    }
}

#[derive(Debug)]
struct Verified {
    inner: Arc<dyn ServerCertVerifier>,
    pattern: Regex,
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut result = Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName,
        ));
        for name in dns_names(leaf)
            .into_iter()
            .filter(|name| self.pattern.is_match(name))
        {
            // A wildcard entry is checked through a name that it covers.
            let concrete = name
                .strip_prefix("*.")
                .map_or_else(|| name.clone(), |rest| format!("any.{rest}"));
            let Ok(server_name) = ServerName::try_from(concrete) else {
                continue;
            };
            result = self
                .inner
                .verify_server_cert(leaf, intermediates, &server_name, ocsp, now);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn dns_names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_star_is_no_pattern_and_a_star_fits_any_text() {
        assert!(NamePattern::of("databroker.example.com").is_none());
        let pattern = NamePattern::of("*.internal.example.com").unwrap().unwrap();
        assert_eq!(pattern.example(), "example.internal.example.com");
        for (name, fits) in [
            ("databroker.internal.example.com", true),
            ("DATABROKER.INTERNAL.example.com", true),
            ("internal.example.com", false),
            ("databroker.internal.example.com.example.org", false),
            ("databroker-internal.example.com", false),
        ] {
            assert_eq!(pattern.pattern.is_match(name), fits, "{name}");
        }
    }
}
