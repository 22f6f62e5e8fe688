//! Certificates: reading, choosing and making them.
//!
//! What lives here: server certificates and their keys ([`load_pair`]), the choice by name in a handshake
//! ([`CertStore`]), certificates of clients ([`client`]), certificates we make ourselves ([`DerivedAuthority`] from the shared secret,
//! [`LocalAuthority`] for a demo on one machine), and installing the latter where browsers look
//! ([`trust`]).
//!
//! What must not live here: listeners, configuration keys, clocks (times come in as unix seconds).
//!
//! Start at [`CertStore`] and [`server_config`].

mod authority;
pub mod client;
mod derived;
mod error;
mod files;
mod load;
mod make;
mod server;
mod store;
pub mod trust;

#[cfg(test)]
mod handshake;

pub use authority::{AuthorityError, LocalAuthority};
pub use derived::{DerivedAuthority, catch_all};
pub use error::{CertError, Problem};
pub use load::{LoadedCertificate, Validity, load_pair};
pub use make::MakeError;
pub use server::{Alpn, server_config, server_config_asking};
pub use store::CertStore;
