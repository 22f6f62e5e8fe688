//! Reading a certificate chain with its key.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::error::{CertError, Problem};

/// id-pe-tlsfeature (RFC 7633): "must staple".
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// Certificates this close to their end are worth a word, in seconds.
const SOON: i64 = 14 * 24 * 3600;

/// A certificate chain whose key is known to fit. Cheap to clone; does not print its key.
#[derive(Clone)]
pub struct LoadedCertificate {
    origin: Arc<str>,
    key: Arc<CertifiedKey>,
    facts: Arc<Facts>,
}

/// What the leaf says.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

/// How a certificate stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// In use for more than two weeks from now.
    Good,
    /// Ends within two weeks.
    EndsSoon {
        /// Whole days left.
        days: i64,
    },
    /// Has ended; it is served all the same, since browsers say it best.
    Expired,
    /// Begins later.
    NotYet,
}

/// Reads a PEM chain (server certificate first) and its PEM key. `origin` names where they were given, for
/// messages. An expired certificate loads: see [`LoadedCertificate::validity`].
///
/// # Errors
/// [`CertError`], which says what is wrong and what to do.
pub fn load_pair(origin: &str, chain_pem: &[u8], key_pem: &[u8]) -> Result<LoadedCertificate, CertError> {
    let read = || {
        let chain = read_chain(chain_pem)?;
        let facts = read_facts(&chain[0])?;
        let key = aws_lc_rs::sign::any_supported_type(&read_key(key_pem)?);
        let key = key.map_err(|error| Problem::BadKey(error.to_string()))?;
        check_match(&chain, &key, &facts)?;
        Ok(LoadedCertificate {
            origin: origin.into(),
            key: Arc::new(CertifiedKey::new(chain, key)),
            facts: facts.into(),
        })
    };
    read().map_err(|problem| CertError::new(origin, problem))
}

impl LoadedCertificate {
    /// Where it was given.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// DNS names (lower case, with wildcards) and addresses of the certificate; the common name only when
    /// there are none.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.facts.names
    }

    /// First second of validity, unix time.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.facts.not_before
    }

    /// Last second of validity, unix time.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.facts.not_after
    }

    /// How it stands at `now_unix` (seconds).
    #[must_use]
    pub fn validity(&self, now_unix: i64) -> Validity {
        let left = self.facts.not_after.saturating_sub(now_unix);
        match left {
            _ if now_unix < self.facts.not_before => Validity::NotYet,
            ..0 => Validity::Expired,
            0..SOON => Validity::EndsSoon {
                days: left / (24 * 3600),
            },
            _ => Validity::Good,
        }
    }

    /// SHA-256 of the server certificate, lower-case hex: what browsers show as its fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key.cert[0])
    }

    /// The chain in DER, server certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// The form rustls takes.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Whether the key is RSA: what every client can check, and slower than the others.
    pub(crate) fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }
}

impl fmt::Debug for LoadedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedCertificate")
            .field("origin", &self.origin)
            .field("names", &self.facts.names)
            .field("not_after", &self.facts.not_after)
            .finish_non_exhaustive()
    }
}

pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(certificate))
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let number = chain.len() + 1;
        chain.push(certificate.map_err(|error| Problem::BadCertificate {
            number,
            reason: error.to_string(),
        })?);
    }
    if !chain.is_empty() {
        return Ok(chain);
    }
    Err(if contains(text, b"PRIVATE KEY-----") {
        Problem::Swapped
    } else {
        Problem::NoCertificate
    })
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    if contains(text, b"ENCRYPTED") {
        return Err(Problem::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => Problem::NoKey,
        other => Problem::BadKey(other.to_string()),
    })
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

fn read_facts(leaf: &CertificateDer<'_>) -> Result<Facts, Problem> {
    let bad = |reason: String| Problem::BadCertificate { number: 1, reason };
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| bad(error.to_string()))?;
    if leaf
        .extensions()
        .iter()
        .any(|extension| extension.oid.to_id_string() == TLS_FEATURE)
    {
        return Err(Problem::MustStaple);
    }
    let alternatives = leaf
        .subject_alternative_name()
        .map_err(|error| bad(error.to_string()))?;
    let mut names: Vec<_> = alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(name)
        .collect();
    if alternatives.is_none() {
        names.extend(
            leaf.subject()
                .iter_common_name()
                .filter_map(|cn| cn.as_str().ok())
                .map(str::to_ascii_lowercase),
        );
    }
    let validity = leaf.validity();
    Ok(Facts {
        names,
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some(dns.trim_end_matches('.').to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets)
                .ok()
                .map(|v4| std::net::Ipv4Addr::from(v4).to_string()),
            16 => <[u8; 16]>::try_from(*octets)
                .ok()
                .map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn check_match(
    chain: &[CertificateDer<'_>],
    key: &Arc<dyn SigningKey>,
    facts: &Facts,
) -> Result<(), Problem> {
    let public = key
        .public_key()
        .ok_or_else(|| Problem::BadKey("it does not tell its public half".into()))?;
    let fits = |certificate: &CertificateDer<'_>| {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, parsed)| parsed.public_key().raw == public.as_ref())
    };
    match chain.iter().position(fits) {
        Some(0) => Ok(()),
        Some(at) => Err(Problem::WrongOrder { number: at + 1 }),
        None => Err(Problem::KeyMismatch {
            subject: facts.names.join(", "),
        }),
    }
}
