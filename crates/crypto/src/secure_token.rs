//! A small value that only we can make and that soon expires, without a place to keep it
//! (spec authentication.md 2.6): 16 bytes of value, the end as Unix milliseconds, a tag over both.
//!
//! What the value means is the caller's business; enrollment links carry the id of an enrollment in one.

use crate::{ct, encoding, mac};

/// Bytes of a token: value, end, tag.
pub const LEN: usize = 16 + 8 + 32;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not the shape of a token.
    #[error("the token is malformed")]
    Malformed,
    /// Made with another key, or changed.
    #[error("the token is not one of ours")]
    Mismatch,
    /// Too old.
    #[error("the token has expired")]
    Expired,
}

/// A token for `value` that is good until `end_ms`, Unix milliseconds.
pub fn seal(key: &[u8], value: &[u8; 16], end_ms: i64) -> [u8; LEN] {
    let mut token = [0; LEN];
    token[..16].copy_from_slice(value);
    token[16..24].copy_from_slice(&end_ms.to_be_bytes());
    let tag = mac::hmac_sha256(key, &token[..24]);
    token[24..].copy_from_slice(&tag);
    token
}

/// The value of a token.
///
/// # Errors
/// [`TokenError`]; whether it is ours comes before whether it is too old.
pub fn open(key: &[u8], token: &[u8], now_ms: i64) -> Result<[u8; 16], TokenError> {
    let token: &[u8; LEN] = token.try_into().map_err(|_| TokenError::Malformed)?;
    let (body, tag) = token.split_at(24);
    if !ct::eq(tag, &mac::hmac_sha256(key, body)) {
        return Err(TokenError::Mismatch);
    }
    let (value, end) = body.split_at(16);
    let end = i64::from_be_bytes(end.try_into().map_err(|_| TokenError::Malformed)?);
    if end < now_ms {
        return Err(TokenError::Expired);
    }
    value.try_into().map_err(|_| TokenError::Malformed)
}

/// [`seal`] as text for links.
pub fn seal_text(key: &[u8], value: &[u8; 16], end_ms: i64) -> String {
    encoding::base58_encode(&seal(key, value, end_ms))
}

/// [`open`] for the text of a link.
///
/// # Errors
/// [`TokenError`].
pub fn open_text(key: &[u8], text: &str, now_ms: i64) -> Result<[u8; 16], TokenError> {
    // Decoding takes time that grows with the square of the length; a token is 77 characters or less.
    if text.len() > 2 * LEN {
        return Err(TokenError::Malformed);
    }
    let token = encoding::base58_decode(text).map_err(|_| TokenError::Malformed)?;
    open(key, &token, now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn a_token_opens_unchanged_with_its_key_until_its_end() {
        let text = seal_text(&KEY, &[9; 16], 1_000);
        assert_eq!(open_text(&KEY, &text, 1_000), Ok([9; 16]));
        assert_eq!(open_text(&KEY, &text, 1_001), Err(TokenError::Expired));
        assert_eq!(open_text(&[8; 32], &text, 0), Err(TokenError::Mismatch));
        let token = seal(&KEY, &[9; 16], 1_000);
        for at in 0..LEN {
            let mut changed = token;
            changed[at] ^= 1;
            assert_eq!(open(&KEY, &changed, 0), Err(TokenError::Mismatch), "byte {at}");
        }
        for text in ["", "0", "l", "2", &"2".repeat(10_000)] {
            assert_eq!(open_text(&KEY, text, 0), Err(TokenError::Malformed));
        }
    }

    #[test]
    fn the_layout_is_value_end_tag() {
        let token = seal(&KEY, &[1; 16], 0x0102_0304);
        assert_eq!(token[..16], [1; 16]);
        assert_eq!(token[16..24], [0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(token[24..], mac::hmac_sha256(&KEY, &token[..24]));
    }
}
