//! What a client has presented.

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

/// A client's certificate and those it sent along, in the order it sent them.
#[derive(Debug, Clone)]
pub struct ClientChain {
    certificates: Vec<CertificateDer<'static>>,
    id: [u8; 32],
    /// Moments (unix seconds) at which one of them begins or ends, ascending.
    boundaries: Vec<i64>,
}

impl ClientChain {
    /// The chain of a handshake; `None` when the client sent nothing.
    #[must_use]
    pub fn new(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        if certificates.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        let mut boundaries = Vec::with_capacity(2 * certificates.len());
        for certificate in certificates {
            hash.update((certificate.len() as u64).to_be_bytes());
            hash.update(certificate);
            if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
                let validity = parsed.validity();
                boundaries.push(validity.not_before.timestamp());
                // Valid through this second.
                boundaries.push(validity.not_after.timestamp().saturating_add(1));
            }
        }
        boundaries.sort_unstable();
        Some(Self {
            certificates: certificates
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            id: hash.finalize().into(),
            boundaries,
        })
    }

    /// The client's own certificate.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// Those it sent along.
    #[must_use]
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.certificates[1..]
    }

    /// SHA-256 over every byte of it.
    pub(super) fn id(&self) -> &[u8; 32] {
        &self.id
    }

    pub(super) fn boundaries(&self) -> &[i64] {
        &self.boundaries
    }

    /// What the logs say about the leaf.
    #[must_use]
    pub fn names(&self) -> CertificateNames {
        CertificateNames::read(self.leaf())
    }
}

/// Names of a certificate as logs show them; empty when it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// Issuer, in the order of RFC 2253 (`CN=…,O=…`).
    pub issuer: String,
    /// Subject, in the same order.
    pub subject: String,
    /// `DNS:…` and `URI:…`.
    pub alternatives: Vec<String>,
}

impl CertificateNames {
    fn read(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self::default();
        };
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        Self {
            issuer: rfc2253(certificate.issuer()),
            subject: rfc2253(certificate.subject()),
            alternatives: alternatives
                .iter()
                .flat_map(|extension| &extension.value.general_names)
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
                    GeneralName::URI(name) => Some(format!("URI:{name}")),
                    _ => None,
                })
                .collect(),
        }
    }
}

/// A name as RFC 2253 writes it: the last part first, special characters escaped.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| {
            let attributes: Vec<String> = part
                .iter()
                .map(|attribute| {
                    let kind = attribute.attr_type();
                    let kind =
                        oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
                    format!("{kind}={}", escaped(attribute.as_str().unwrap_or_default()))
                })
                .collect();
            attributes.join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        let at_edge = (letter == ' ' && (at == 0 || at == last)) || (letter == '#' && at == 0);
        if at_edge || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}
