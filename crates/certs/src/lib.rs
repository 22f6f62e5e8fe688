//! Certificates: reading, choosing and making them.
//!
//! What lives here: server certificates and their keys ([`load_pair`]), the choice by name in a handshake
//! ([`CertStore`]), certificates of clients ([`client`]), certificates we make ourselves ([`DerivedAuthority`] from the shared secret,
//! [`LocalAuthority`] for a demo on one machine), and installing the latter where browsers look
//! ([`trust`]).
//!
//! TLS between the services of an installation is set up by [`services`].
//!
//! Certificates by ACME are kept by [`acme`] in a [`storage`], with their status from [`ocsp`].
//!
//! What must not live here: listeners, configuration keys, the clock of the machine (times come in).
//!
//! Start at [`CertStore`] and [`server_config`].

pub mod acme;
mod authority;
pub mod client;
mod derived;
mod error;
mod files;
mod guarded;
mod load;
mod make;
pub mod name_pattern;
pub mod ocsp;
mod overlap;
mod server;
pub mod services;
pub mod storage;
mod store;
pub mod trust;
pub mod web;

#[cfg(test)]
mod handshake;

pub use authority::{AuthorityError, LocalAuthority};
pub use derived::DerivedAuthority;
pub use error::{CertError, Problem};
pub use guarded::{GuardError, guarded_server_config};
pub use load::{LoadedCertificate, Validity, load_pair, load_pair_to_staple};
pub use make::MakeError;
pub use server::{Alpn, server_config, server_config_asking};
pub use store::CertStore;
