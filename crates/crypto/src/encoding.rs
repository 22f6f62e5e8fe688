//! Text forms of bytes: base64 in its flavours, base58, base62, and the 32-byte secrets of the configuration.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{
    GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE, URL_SAFE_NO_PAD,
};

/// Text that is not the encoding it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not valid {0}")]
pub struct DecodeError(&'static str);

/// Standard alphabet with padding; bits past the end are tolerated, as in the Go decoder that reads the same
/// configuration files.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Standard alphabet, padded.
#[must_use]
pub fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Standard alphabet, padding required. CR and LF anywhere are ignored, other white space is an error
/// (spec config.md 5).
///
/// # Errors
/// When the rest is not base64.
pub fn base64_decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    let decoded = if text.contains(['\r', '\n']) {
        LENIENT.decode(text.replace(['\r', '\n'], ""))
    } else {
        LENIENT.decode(text)
    };
    decoded.map_err(|_| DecodeError("base64 (standard alphabet, with padding)"))
}

/// URL-safe alphabet, no padding: tokens, names of things.
#[must_use]
pub fn base64url_encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// URL-safe alphabet, no padding, one spelling per value (bits past the end must be zero).
///
/// # Errors
/// When the text is anything else.
pub fn base64url_decode(text: impl AsRef<[u8]>) -> Result<Vec<u8>, DecodeError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| DecodeError("base64 (URL-safe alphabet, no padding)"))
}

/// URL-safe alphabet, padded: the signature parameter of a signed URL.
#[must_use]
pub fn base64url_padded_encode(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

/// URL-safe alphabet, padding required, one spelling per value: a link that is good once must not come back
/// under another spelling of its signature.
///
/// # Errors
/// When the text is anything else.
pub fn base64url_padded_decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    URL_SAFE
        .decode(text)
        .map_err(|_| DecodeError("base64 (URL-safe alphabet, with padding)"))
}

/// The alphabet of Bitcoin addresses: ids of device credentials, enrollment links.
#[must_use]
pub fn base58_encode(bytes: &[u8]) -> String {
    bs58::encode(bytes).into_string()
}

/// The alphabet of Bitcoin addresses.
///
/// # Errors
/// When the text is anything else. The time grows with the square of the length: the caller limits it.
pub fn base58_decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    bs58::decode(text).into_vec().map_err(|_| DecodeError("base58"))
}

/// Why a text is not a 32-byte secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not base64 at all.
    #[error("must be standard base64 with padding (make one with `head -c32 /dev/urandom | base64`)")]
    NotBase64,
    /// Base64 of the wrong number of bytes.
    #[error(
        "must be base64 of exactly 32 bytes, but holds {0} (make one with `head -c32 /dev/urandom | base64`)"
    )]
    Length(usize),
}

/// Reads `shared_secret`, `cookie_secret` and their like: standard base64 of exactly 32 bytes
/// (spec authentication.md 1).
///
/// # Errors
/// Says what is wrong and how to make a good one; never repeats the value.
pub fn secret_32(text: &str) -> Result<[u8; 32], SecretError> {
    let bytes = zeroize::Zeroizing::new(base64_decode(text).map_err(|_| SecretError::NotBase64)?);
    bytes
        .as_slice()
        .try_into()
        .map_err(|_| SecretError::Length(bytes.len()))
}

const BASE62: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Base62 by packing bits, as in IdP ids (spec authentication.md 1, "IdP id").
///
/// The bytes are one big-endian bit string, read from its end in groups of six. A group whose bits 1..=4 are
/// all set (30, 31, 62, 63) does not fit 62 letters: only its low five bits are taken, the sixth stays for
/// the next group. Empty input gives empty text.
#[must_use]
pub fn base62_bitpacked(bytes: &[u8]) -> String {
    let bit = |from_end: usize| {
        let byte = bytes[bytes.len() - 1 - from_end / 8];
        usize::from((byte >> (from_end % 8)) & 1)
    };
    let total = bytes.len() * 8;
    let mut out = String::with_capacity(total / 5 + 1);
    let mut taken = 0;
    while taken < total {
        let width = (total - taken).min(6);
        let group = (0..width).fold(0, |value, i| value | bit(taken + i) << i);
        let crowded = group & 0b01_1110 == 0b01_1110;
        // At the very end a missing sixth bit is a zero, and a zero needs no letter of its own.
        let (value, used) = if crowded {
            (group & 0b01_1111, width.min(5))
        } else {
            (group, width)
        };
        out.push(char::from(BASE62[value]));
        taken += used;
        if taken + 1 == total && crowded && group <= 0b01_1111 {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_base64_ignores_line_ends_but_not_spaces() {
        assert_eq!(base64_encode(&[0xfb, 0xff]), "+/8=");
        assert_eq!(base64_decode("+/\r\n8=\n").unwrap(), [0xfb, 0xff]);
        assert!(base64_decode("+/8").is_err(), "padding is required");
        assert!(base64_decode(" +/8=").is_err());
        assert!(base64_decode("-_8=").is_err(), "no URL-safe letters");
        assert_eq!(
            base64_decode("+/9=").unwrap(),
            [0xfb, 0xff],
            "trailing bits tolerated"
        );
    }

    #[test]
    fn url_safe_base64_has_one_spelling_per_value() {
        assert_eq!(base64url_encode(&[0xfb, 0xff]), "-_8");
        assert_eq!(base64url_decode("-_8").unwrap(), [0xfb, 0xff]);
        for other in ["-_9", "-_8=", "+/8", "-_8\n", "-"] {
            assert!(base64url_decode(other).is_err(), "{other:?}");
        }
        assert_eq!(base64url_padded_encode(&[0xfb, 0xff]), "-_8=");
        assert_eq!(base64url_padded_decode("-_8=").unwrap(), [0xfb, 0xff]);
        for other in ["-_8", "-_9=", "-_8==", "+/8=", "-_8=\n"] {
            assert!(base64url_padded_decode(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn secrets_are_exactly_32_bytes() {
        let text = base64_encode(&[7; 32]);
        assert_eq!(secret_32(&text), Ok([7; 32]));
        assert_eq!(secret_32(&base64_encode(&[7; 31])), Err(SecretError::Length(31)));
        assert_eq!(secret_32(&format!(" {text}")), Err(SecretError::NotBase64));
        assert_eq!(secret_32(""), Err(SecretError::Length(0)));
    }

    /// The inverse, only to prove that no information is lost.
    fn base62_decode(text: &str) -> Vec<u8> {
        let mut bits = Vec::new();
        for (i, letter) in text.bytes().enumerate() {
            let value = BASE62.iter().position(|l| *l == letter).unwrap();
            let crowded = value & 0b01_1110 == 0b01_1110;
            let width = if i + 1 == text.len() {
                (usize::BITS - value.leading_zeros()) as usize
            } else if crowded {
                5
            } else {
                6
            };
            bits.extend((0..width).map(|b| value >> b & 1 == 1));
        }
        let mut out = vec![0_u8; bits.len().div_ceil(8)];
        for (i, set) in bits.iter().enumerate() {
            let at = out.len() - 1 - i / 8;
            out[at] |= u8::from(*set) << (i % 8);
        }
        out
    }

    #[test]
    fn base62_by_hand() {
        assert_eq!(base62_bitpacked(&[]), "");
        // 00000001 -> 000001, 00
        assert_eq!(base62_bitpacked(&[1]), "BA");
        // 11111111 -> 111111 is crowded: 11111 (31 = f), then 111 (7 = H)
        assert_eq!(base62_bitpacked(&[0xff]), "fH");
        // 00111110 -> 111110 is crowded: 11110 (30 = e), then 001 (1 = B)
        assert_eq!(base62_bitpacked(&[0x3e]), "eB");
    }

    proptest::proptest! {
        #[test]
        fn base62_keeps_every_bit(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..80)) {
            bytes[0] |= 0x80; // the reader of this test does not know how many leading zeros there were
            proptest::prop_assert_eq!(base62_decode(&base62_bitpacked(&bytes)), bytes);
        }
    }
}
