//! Keys, tokens, signed URLs and sealed values.
//!
//! What lives here: the small set of primitives every other room builds on. Each has one right way to be
//! called: keys are typed or fixed-size, algorithms are never chosen by the input.
//!
//! What must not live here: HTTP, clocks (times come in as unix seconds), configuration, records.
//!
//! Start at [`jwt`] for tokens, [`signed_url`] for links between our own hosts, [`kdf`] for how one shared
//! secret becomes many keys, [`service_token`] for how our services know each other.

pub mod aead;
pub mod ct;
pub mod encoding;
pub mod jwt;
pub mod kdf;
pub mod mac;
pub mod password;
pub mod query;
pub mod random;
pub mod secure_token;
pub mod service_token;
pub mod signed_url;
pub mod tls;
