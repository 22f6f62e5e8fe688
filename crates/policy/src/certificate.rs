//! What policies know of a client certificate. Reading it is all that happens here: whether it counts is decided by
//! whoever knows the authorities.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What a client certificate says; read once per connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 of the certificate, 64 lower-case hex digits.
    pub fingerprint: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo), padded base64.
    pub spki_hash: String,
    /// Its alternative names of type DNS, as written.
    pub dns_names: Vec<String>,
    /// Its e-mail addresses.
    pub emails: Vec<String>,
    /// Its URIs.
    pub uris: Vec<String>,
    /// The certificate itself, PEM.
    pub pem: String,
    /// The further certificates the client sent, PEM.
    pub intermediates: String,
}

impl CertificateFacts {
    /// Reads a certificate in DER. `None` when it cannot be read, which no condition matches.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut facts = Self {
            fingerprint: hex(&Sha256::digest(der)),
            spki_hash: STANDARD.encode(Sha256::digest(certificate.public_key().raw)),
            pem: pem(der),
            ..Self::default()
        };
        let names = certificate.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => facts.dns_names.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => facts.emails.push((*name).to_owned()),
                GeneralName::URI(name) => facts.uris.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(facts)
    }

    /// The same, with the further certificates the client sent, in DER.
    #[must_use]
    pub fn with_intermediates<'a>(self, certificates: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self {
            intermediates: certificates.into_iter().map(pem).collect(),
            ..self
        }
    }
}

fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::with_capacity(encoded.len() + encoded.len() / 64 + 60);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = others;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    bytes
        .iter()
        .flat_map(|byte| [usize::from(byte >> 4), usize::from(byte & 15)])
        .map(|digit| DIGITS[digit])
        .collect()
}

/// What the authorities of a route say about the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateTrust {
    /// The route has no authority: nobody asks, and nothing vouches for what a client presents.
    #[default]
    NoAuthority,
    /// It is valid for this route.
    Verified,
    /// It is not, or there is none.
    Rejected,
}

impl CertificateTrust {
    /// The name in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAuthority => "no authority",
            Self::Verified => "valid",
            Self::Rejected => "not valid",
        }
    }
}

/// The client certificate of the connection, as it stands for one route.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientCertificate<'a> {
    /// Whether the client sent one.
    pub presented: bool,
    /// What it says; absent when none was sent or it cannot be read.
    pub leaf: Option<&'a CertificateFacts>,
    /// Whether it counts.
    pub trust: CertificateTrust,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_has_no_facts() {
        for bad in [&b""[..], b"x", &[0x30, 0x03, 2, 1, 5]] {
            assert_eq!(CertificateFacts::read(bad), None);
        }
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        let text = pem(&[0; 50]);
        let lines: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(lines, [27, 64, 4, 25]);
    }
}
