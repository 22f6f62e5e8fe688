//! SSH public keys and OpenSSH user certificates, in wire format (RFC 4253 6.6, RFC 5656, OpenSSH's
//! `PROTOCOL.certkeys` and `PROTOCOL.u2f`).
//!
//! Reading is strict: what is odd in form is refused, never repaired. No private key is read here, and that the
//! client holds the private half is for the SSH server to prove. Start at [`PublicKey`] and
//! [`check_user_certificate`].

mod authorized;
mod certificate;
mod key;
mod signature;
mod wire;

pub use authorized::KeyProblem;
pub use certificate::{CertificateCheck, CertificateProblem, check_user_certificate};
pub use key::PublicKey;

#[cfg(test)]
mod tests;
