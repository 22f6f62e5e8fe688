//! Message authentication codes.

use ::hmac::{Hmac, KeyInit as _, Mac as _};
use aws_lc_rs::hmac;
use sha2::Sha512_256;

/// HMAC over SHA-512/256, the hash with its own initial value, not a cut SHA-512
/// (spec authentication.md 2.2).
///
/// # Panics
/// Never: HMAC takes keys of any length.
#[must_use]
pub fn hmac_sha512_256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha512_256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// HMAC over SHA-256.
#[must_use]
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_rfc_4231_case_2() {
        assert_eq!(
            hex::encode(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    /// Computed with OpenSSL's `sha512-256`; cutting HMAC-SHA-512 (RFC 4231) gives another value.
    #[test]
    fn sha512_256_is_not_a_cut_sha512() {
        let tag = hex::encode(hmac_sha512_256(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(
            tag,
            "6df7b24630d5ccb2ee335407081a87188c221489768fa2020513b2d593359456"
        );
        assert_ne!(
            tag,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        );
    }
}
