//! What can be wrong with a certificate somebody gave us, in words that lead out of it.

/// A certificate that cannot be used: where it was given, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct CertError {
    /// Where it was given: a configuration key or a path.
    pub origin: String,
    /// What is wrong.
    pub problem: Problem,
}

impl CertError {
    pub(crate) fn new(origin: &str, problem: Problem) -> Self {
        Self {
            origin: origin.to_owned(),
            problem,
        }
    }
}

/// Why a certificate cannot be used. The texts name the cause and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No certificate in the chain.
    #[error(
        "no certificate found: the chain has to be PEM with `-----BEGIN CERTIFICATE-----`, server certificate first"
    )]
    NoCertificate,
    /// A private key where the chain should be.
    #[error("holds a private key where the certificate chain belongs: are certificate and key swapped?")]
    Swapped,
    /// Broken PEM or a certificate that cannot be parsed.
    #[error("certificate number {number} of the chain cannot be read: {reason}")]
    BadCertificate {
        /// Which one, from 1.
        number: usize,
        /// What the parser says.
        reason: String,
    },
    /// No private key.
    #[error("no private key found: it has to be PEM with `-----BEGIN PRIVATE KEY-----` (or EC, or RSA)")]
    NoKey,
    /// The key needs a passphrase.
    #[error(
        "the private key is encrypted: store it without a passphrase (`openssl pkey -in key.pem -out plain.pem`) and guard the file by its permissions"
    )]
    EncryptedKey,
    /// The key cannot be parsed or is of an unknown kind.
    #[error(
        "the private key cannot be used: {0}. RSA from 2048 bits, ECDSA on P-256 or P-384 and Ed25519 keys work"
    )]
    BadKey(String),
    /// The key is not the certificate's.
    #[error(
        "the private key does not match the certificate for {subject}: give the key the certificate was issued for"
    )]
    KeyMismatch {
        /// Names in the certificate.
        subject: String,
    },
    /// The key belongs to a later certificate of the chain.
    #[error("the private key belongs to certificate number {number} of the chain: put that one first")]
    WrongOrder {
        /// Which one, from 1.
        number: usize,
    },
    /// Must-staple without a staple (spec proxy.md 1.3).
    #[error(
        "the certificate demands OCSP stapling (must-staple), which is done only with `autocert` on: turn that on, or have it issued without that extension"
    )]
    MustStaple,
}
