//! Signed tokens: compact JWS (RFC 7515) with JSON claims (RFC 7519).
//!
//! The rule behind everything here: **the key decides the algorithm, the token only names it.** HMAC tokens
//! are ours alone and are checked by [`hs256_verify`], which knows one algorithm; tokens of others are
//! checked against a [`JwkSet`], which knows no HMAC. `jwk`, `jku`, `x5u` and `x5c` in a header are never
//! looked at, `crit` is refused, encrypted tokens (five parts) are not tokens here.
//!
//! Start at [`hs256_sign`], [`SigningKey`] (ours, asymmetric) or [`JwkSet`] (theirs).

mod algorithm;
mod claims;
mod compact;
mod hs256;
mod jwk;
mod key_pair;
mod signing_key;

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "`json!` straight into a helper reads best"
)]
mod classics;

pub use algorithm::Algorithm;
pub use claims::Expect;
pub use compact::MAX_TOKEN;
pub use hs256::{hs256_sign, hs256_verify, hs256_verify_within};
pub use jwk::{JwkSet, JwkSetError};
pub use key_pair::SigningKeyError;
pub use signing_key::SigningKey;

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Longer than the limit; nothing of it was decoded.
    #[error("the token is longer than {0} bytes")]
    TooLong(usize),
    /// Not three base64url parts with a JSON header and a JSON object.
    #[error("the token is malformed")]
    Malformed,
    /// The header names an algorithm that is not accepted here (always so for `none`, and for `HS*` with a
    /// key set).
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// The header asks for an extension that has to be understood (`crit`).
    #[error("the token needs an extension that is not supported")]
    Critical,
    /// No key of the set can be meant. The set may be out of date: fetch it again, but not more often than
    /// a limit of your own, since anybody can send such a token.
    #[error("no known key fits the token")]
    UnknownKey,
    /// Signed by another key, or changed.
    #[error("the token's signature does not fit")]
    Signature,
    /// `iss` is missing or somebody else.
    #[error("the token comes from another issuer")]
    Issuer,
    /// `aud` is missing or somebody else.
    #[error("the token is meant for another audience")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies in the future, beyond the leeway.
    #[error("the token is from the future: the clocks may be apart")]
    NotYetValid,
    /// A required claim is missing or of the wrong type.
    #[error("the token's claim {0} is missing or malformed")]
    Claim(&'static str),
    /// The claims do not have the shape the caller expects.
    #[error("the token's claims have an unexpected shape: {0}")]
    Shape(String),
    /// Our own key failed to sign; not expected.
    #[error("the token could not be signed")]
    Signing,
}
