//! Sealed values: nobody reads them, nobody changes them unseen.
//!
//! XChaCha20-Poly1305, laid out as `ciphertext ‖ tag ‖ nonce` (spec authentication.md 2.1). The 24-byte
//! nonce is random: with that length two never meet, so that a key needs no counter.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::random;

const NONCE: usize = 24;
/// What sealing adds to the length of a value, in bytes.
pub const OVERHEAD: usize = NONCE + 16;

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short to be a sealed value at all.
    #[error("too short to be a sealed value")]
    TooShort,
    /// Sealed with another key or other associated data, or changed on the way.
    #[error("sealed with another key, or changed on the way")]
    Rejected,
}

/// Seals `plain` under `key`, bound to the associated data `ad` (which is not part of the result and has to
/// be the same on opening).
///
/// # Panics
/// When the operating system has no randomness; see [`random::bytes`].
#[must_use]
pub fn seal(key: &[u8; 32], plain: &[u8], ad: &[u8]) -> Vec<u8> {
    seal_with_nonce(key, plain, ad, random::bytes())
}

fn seal_with_nonce(key: &[u8; 32], plain: &[u8], ad: &[u8], nonce: [u8; NONCE]) -> Vec<u8> {
    let mut out = XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: ad })
        .expect("only values over 256 GiB fail to seal");
    out.extend_from_slice(&nonce);
    out
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`OpenError`]; the caller cannot learn more about why, and neither can an attacker.
pub fn open(key: &[u8; 32], sealed: &[u8], ad: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (text, nonce) = sealed.split_last_chunk::<NONCE>().ok_or(OpenError::TooShort)?;
    if text.is_empty() {
        return Err(OpenError::TooShort);
    }
    XChaCha20Poly1305::new(key.into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: ad })
        .map_err(|_| OpenError::Rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [3; 32];

    #[test]
    fn opens_what_it_sealed() {
        for plain in [&b""[..], b"x", &[9; 5000]] {
            let sealed = seal(&KEY, plain, b"cookie");
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            assert_eq!(open(&KEY, &sealed, b"cookie").unwrap(), plain);
        }
        assert_ne!(seal(&KEY, b"x", b""), seal(&KEY, b"x", b""));
    }

    #[test]
    fn other_key_other_purpose_or_any_changed_bit_is_rejected() {
        let sealed = seal(&KEY, b"value", b"cookie");
        assert_eq!(open(&[4; 32], &sealed, b"cookie"), Err(OpenError::Rejected));
        assert_eq!(open(&KEY, &sealed, b"state"), Err(OpenError::Rejected));
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(
                open(&KEY, &changed, b"cookie"),
                Err(OpenError::Rejected),
                "byte {i}"
            );
        }
        for n in 0..=24 {
            assert_eq!(open(&KEY, &sealed[..n], b"cookie"), Err(OpenError::TooShort));
        }
    }

    /// draft-irtf-cfrg-xchacha, A.3.1, rearranged to put the nonce last.
    #[test]
    fn known_answer() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + i as u8);
        let ad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
                      the future, sunscreen would be it.";
        let sealed = seal_with_nonce(&key, plain, &ad, nonce);
        assert_eq!(hex::encode(&sealed[..16]), "bd6d179d3e83d43b9576579493c0e939");
        assert_eq!(
            hex::encode(&sealed[plain.len()..plain.len() + 16]),
            "c0875924c1c7987947deafd8780acf49"
        );
        assert_eq!(sealed[plain.len() + 16..], nonce);
        assert_eq!(open(&key, &sealed, &ad).unwrap(), plain);
    }
}
