//! What can go wrong on the way to a certificate.

use super::dns::DnsError;
use crate::error::CertError;
use crate::ocsp::OcspError;
use crate::storage::{LockError, StorageError};

/// Why there is no certificate. The texts say what to look at.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The directory is not https.
    #[error("autocert_ca: the address of the directory must begin with https://")]
    NotHttps,
    /// What the authority, or the way to it, says.
    #[error("the certificate authority: {0}")]
    Authority(String),
    /// The authority knows no such account.
    #[error("the certificate authority does not know the stored account")]
    NoAccount,
    /// The key of a new account could not be written down; not expected.
    #[error("the key of the account has an unexpected form")]
    AccountKey,
    /// No challenge that is offered can be answered here.
    #[error("{name} cannot be proven: {reason}")]
    NoMethod {
        /// Which name.
        name: String,
        /// What would help.
        reason: &'static str,
    },
    /// The authority looked and was not satisfied.
    #[error("{method}: the certificate authority did not accept the proof: {reason}")]
    Refused {
        /// Which challenge.
        method: &'static str,
        /// In the authority's words.
        reason: String,
    },
    /// A record could not be published.
    #[error("DNS-01: {0}")]
    Dns(#[from] DnsError),
    /// It took too long.
    #[error("it took longer than {0} s")]
    TooLong(u64),
    /// The order was ended half-way: another authority is asked from now on, or the program stops.
    #[error("it was given up")]
    Over,
    /// The certificate that came is of no use.
    #[error("the certificate that came cannot be used: {0}")]
    Unusable(String),
    /// The certificate demands a staple, and there is none.
    #[error("the certificate demands stapling, and its status could not be had: {0}")]
    NoStaple(#[source] OcspError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another process has the lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<instant_acme::Error> for AcmeError {
    fn from(error: instant_acme::Error) -> Self {
        match &error {
            instant_acme::Error::Api(problem)
                if problem
                    .r#type
                    .as_deref()
                    .is_some_and(|kind| kind.ends_with(":accountDoesNotExist")) =>
            {
                Self::NoAccount
            }
            _ => Self::Authority(error.to_string()),
        }
    }
}

impl From<CertError> for AcmeError {
    fn from(error: CertError) -> Self {
        Self::Unusable(error.problem.to_string())
    }
}

impl From<rcgen::Error> for AcmeError {
    fn from(error: rcgen::Error) -> Self {
        Self::Other(format!("the request could not be made: {error}"))
    }
}
