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
    must_staple: bool,
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
/// [`CertError`], which says what is wrong and what to do. A certificate that demands stapling is an error too: see
/// [`load_pair_to_staple`].
pub fn load_pair(origin: &str, chain_pem: &[u8], key_pem: &[u8]) -> Result<LoadedCertificate, CertError> {
    let loaded = load_pair_to_staple(origin, chain_pem, key_pem)?;
    if loaded.must_staple() {
        return Err(CertError::new(origin, Problem::MustStaple));
    }
    Ok(loaded)
}

/// As [`load_pair`], for those who care for the status that a must-staple certificate demands.
///
/// # Errors
/// [`CertError`], which says what is wrong and what to do.
pub fn load_pair_to_staple(
    origin: &str,
    chain_pem: &[u8],
    key_pem: &[u8],
) -> Result<LoadedCertificate, CertError> {
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

    /// Whether clients are told to refuse it without a status (RFC 7633).
    #[must_use]
    pub fn must_staple(&self) -> bool {
        self.facts.must_staple
    }

    /// The same with this OCSP response in its handshakes, or with none.
    #[must_use]
    pub fn with_staple(&self, response: Option<Vec<u8>>) -> Self {
        let mut key = CertifiedKey::clone(&self.key);
        key.ocsp = response;
        Self {
            key: Arc::new(key),
            ..self.clone()
        }
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
    let must_staple = leaf
        .extensions()
        .iter()
        .any(|extension| extension.oid.to_id_string() == TLS_FEATURE);
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
        must_staple,
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};

    use super::*;
    use crate::make::{Period, authority_params};

    const NOW: i64 = 1_800_000_000;

    fn pair(names: &[&str]) -> (String, String) {
        made(&CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap())
    }

    fn made(params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn problem(chain: &str, key: &str) -> Problem {
        load_pair("certificates[0]", chain.as_bytes(), key.as_bytes())
            .unwrap_err()
            .problem
    }

    #[test]
    fn reads_names_in_lower_case() {
        let (chain, key) = pair(&["A.Example.com", "*.b.example.com", "127.0.0.1", "::1"]);
        let loaded = load_pair("here", chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(
            loaded.names(),
            ["a.example.com", "*.b.example.com", "127.0.0.1", "::1"]
        );
        assert_eq!(loaded.origin(), "here");
        assert_eq!(loaded.fingerprint().len(), 64);
    }

    #[test]
    fn common_name_counts_only_without_alternatives() {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Old.example.com");
        let (chain, key) = made(&params);
        assert_eq!(
            load_pair("x", chain.as_bytes(), key.as_bytes()).unwrap().names(),
            ["old.example.com"]
        );
        params.subject_alt_names = vec![rcgen::SanType::DnsName("new.example.com".try_into().unwrap())];
        let (chain, key) = made(&params);
        assert_eq!(
            load_pair("x", chain.as_bytes(), key.as_bytes()).unwrap().names(),
            ["new.example.com"]
        );
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let (chain, key) = pair(&["a.example.com"]);
        let (other_chain, other_key) = pair(&["b.example.com"]);
        assert_eq!(problem("", &key), Problem::NoCertificate);
        assert_eq!(problem("MIIB...", &key), Problem::NoCertificate);
        assert_eq!(problem(&key, &chain), Problem::Swapped);
        assert_eq!(problem(&chain, ""), Problem::NoKey);
        assert_eq!(problem(&chain, &chain), Problem::NoKey);
        assert_eq!(
            problem(&chain, &other_key),
            Problem::KeyMismatch {
                subject: "a.example.com".into()
            }
        );
        assert_eq!(
            problem(&format!("{other_chain}{chain}"), &key),
            Problem::WrongOrder { number: 2 }
        );
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            problem(broken, &key),
            Problem::BadCertificate { number: 1, .. }
        ));
        let broken = broken.replace("AAAA", "!!!!");
        assert!(matches!(
            problem(&format!("{chain}{broken}"), &key),
            Problem::BadCertificate { number: 2, .. }
        ));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(problem(&chain, encrypted), Problem::EncryptedKey);
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(problem(&chain, legacy), Problem::EncryptedKey);
        let odd = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(problem(&chain, odd), Problem::BadKey(_)));
        let error = load_pair("certificates[0]", b"", b"").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("certificates[0]: no certificate found"),
            "{error}"
        );
    }

    #[test]
    fn must_staple_is_refused() {
        let mut params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        let feature =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
        params.custom_extensions.push(feature);
        let (chain, key) = made(&params);
        assert_eq!(problem(&chain, &key), Problem::MustStaple);
    }

    #[test]
    fn the_chain_is_kept_in_order() {
        let (leaf, key) = pair(&["a.example.com"]);
        let (intermediate, _) = pair(&["b.example.com"]);
        let loaded = load_pair("x", format!("{leaf}{intermediate}").as_bytes(), key.as_bytes()).unwrap();
        let expected = CertificateDer::from_pem_slice(intermediate.as_bytes()).unwrap();
        assert_eq!(loaded.chain().len(), 2);
        assert_eq!(loaded.chain()[1], expected);
    }

    #[test]
    fn tells_how_it_stands() {
        let day = 24 * 3600;
        let params = authority_params(
            "x",
            Period {
                from: NOW - day,
                until: NOW + 30 * day,
            },
        )
        .unwrap();
        let (chain, key) = made(&params);
        let loaded = load_pair("x", chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(loaded.validity(NOW), Validity::Good);
        assert_eq!(loaded.validity(NOW + 20 * day), Validity::EndsSoon { days: 10 });
        assert_eq!(loaded.validity(NOW + 30 * day), Validity::EndsSoon { days: 0 });
        assert_eq!(loaded.validity(NOW + 30 * day + 1), Validity::Expired);
        assert_eq!(loaded.validity(NOW - 2 * day), Validity::NotYet);
    }

    #[test]
    fn debug_output_holds_no_key() {
        let (chain, key) = pair(&["a.example.com"]);
        let printed = format!("{:?}", load_pair("x", chain.as_bytes(), key.as_bytes()).unwrap());
        assert_eq!(
            printed.split_once("not_after").unwrap().0,
            r#"LoadedCertificate { origin: "x", names: ["a.example.com"], "#
        );
    }
}
