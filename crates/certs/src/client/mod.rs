//! Certificates of clients: who vouches for them, which count, and asking for them in a handshake (spec proxy.md 2).
//!
//! [`Anchors`] are the authorities, [`Rules`] what else a certificate has to be; together they are a
//! [`ClientTrust`], which judges a [`ClientChain`]. A [`Demand`] is what a handshake asks for. What a verdict means
//! for a request is not decided here.

mod anchors;
mod chain;
mod demand;
mod names;
mod revocation;
mod trust;
mod verdict;

#[cfg(test)]
mod tests;

pub use anchors::Anchors;
pub use chain::{CertificateNames, ClientChain};
pub use demand::{Demand, Refused, RefusedChain};
pub use names::NameKind;
pub use revocation::RevocationLists;
pub use trust::{ClientTrust, Rules};
pub use verdict::{Flaw, Verdict};

/// Settings about client certificates that cannot be used. Nothing is served with half of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No certificate in a bundle.
    #[error(
        "{origin}: no certificate found: the authorities have to be PEM with `-----BEGIN CERTIFICATE-----`"
    )]
    NoAuthority {
        /// The key of the configuration.
        origin: String,
    },
    /// One that cannot be read.
    #[error("{origin}: certificate number {number} cannot be read: {reason}")]
    BadAuthority {
        /// The key of the configuration.
        origin: String,
        /// Which one, from 1.
        number: usize,
        /// What the parser says.
        reason: String,
    },
    /// A list that cannot be read or used.
    #[error("downstream_mtls.crl: {0}")]
    BadList(String),
    /// A list that its authority did not sign.
    #[error(
        "downstream_mtls.crl: the list of {issuer} is not signed by the authority of that name in downstream_mtls.ca: fetch it again from that authority"
    )]
    ForgedList {
        /// Its issuer.
        issuer: String,
    },
    /// A pattern that does not compile.
    #[error("downstream_mtls.match_subject_alt_names: the pattern {pattern:?} cannot be used: {reason}")]
    BadPattern {
        /// As written.
        pattern: String,
        /// What the engine says.
        reason: String,
    },
}
