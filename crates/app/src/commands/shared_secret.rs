//! The shared secret of commands that may do without a configuration.

use anyhow::Context;
use pomerium_crypto::encoding::base64_decode;

/// The one in the environment.
pub fn of_environment() -> Option<String> {
    std::env::var("SHARED_SECRET")
        .ok()
        .filter(|text| !text.is_empty())
}

/// The secret that `text` stands for.
///
/// Errors when it is not the base64 of 32 bytes.
pub fn decoded(text: &str) -> anyhow::Result<[u8; 32]> {
    let bytes = base64_decode(text.trim()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .context("the shared secret must be the base64 of 32 bytes")
}
