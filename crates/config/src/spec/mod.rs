//! What people write: sources and their precedence, the key table, decoding with the rules of the original.
//!
//! No option is given its final meaning here; that is `settings`' business. The way of a value: `format` reads
//! a file into a tree of [`node::Node`], [`source`] lays the environment over it, [`decode`] turns it into
//! [`values::Values`] by the table in [`keys`], and reports what it does not know.

pub mod decode;
pub mod format;
pub mod go_url;
pub mod keys;
pub(crate) mod memory;
pub mod node;
pub mod policy;
pub mod re2;
mod scalar;
pub mod services;
mod sink;
pub mod source;
pub mod unknown;
pub mod upstream;
pub mod values;

pub use pomerium_policy::duration;
pub use sink::Sink;

/// Standard base64 with padding; CR and LF are ignored (spec config.md 5).
pub(crate) fn base64_std(text: &str) -> Result<Vec<u8>, String> {
    pomerium_crypto::encoding::base64_decode(text).map_err(|error| error.to_string())
}
