//! Many keys from one secret.
//!
//! Every use of the shared secret has a purpose of its own, so that a value made for one use can never be
//! taken for another.

use hkdf::Hkdf;
use p256::elliptic_curve::bigint::{NonZero, U256, U320};
use p256::pkcs8::EncodePrivateKey as _;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The order of P-256 minus one (SEC 2, 2.4.2).
const P256_ORDER_LESS_ONE: U256 =
    U256::from_be_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550");

/// HKDF-SHA-256 (RFC 5869) of `shared` without salt, with `purpose` as the info.
#[must_use]
pub fn derive(shared: &[u8; 32], purpose: &str) -> [u8; 32] {
    expand(shared, purpose)
}

/// A P-256 private key that is always the same for the same secret and purpose, as PKCS#8 DER.
///
/// 40 bytes B come from HKDF; the scalar is `int(B) mod (n − 1) + 1` (spec authentication.md 1, "signing
/// key").
///
/// # Panics
/// Never: the scalar is in range by construction.
#[must_use]
pub fn p256_pkcs8(shared: &[u8; 32], purpose: &str) -> Zeroizing<Vec<u8>> {
    pkcs8(&Zeroizing::new(expand(shared, purpose)))
}

/// The key of the authority that every process of an installation derives from its secret, as PKCS#8 DER: the same key
/// that the original derives (spec databroker.md 8.3), so that processes of both trust each other's certificates. There
/// the use stands in front of the secret, and the info of HKDF is empty.
///
/// # Panics
/// Never: the scalar is in range by construction.
#[must_use]
pub fn authority_pkcs8(shared: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    pkcs8(&Zeroizing::new(authority_stream(shared)))
}

fn authority_stream(shared: &[u8; 32]) -> [u8; 40] {
    const AUTHORITY_KEY: u8 = 0;
    let mut input = Zeroizing::new([0; 34]);
    input[0] = AUTHORITY_KEY;
    input[1..33].copy_from_slice(shared);
    let mut out = [0; 40];
    Hkdf::<Sha256>::new(None, input.as_slice())
        .expand(&[], &mut out)
        .expect("HKDF-SHA-256 gives up to 8160 bytes");
    out
}

fn pkcs8(stream: &[u8; 40]) -> Zeroizing<Vec<u8>> {
    let scalar = Zeroizing::new(p256_scalar(stream));
    let key = p256::SecretKey::from_slice(scalar.as_slice()).expect("the scalar is in 1..n");
    key.to_pkcs8_der()
        .expect("a P-256 key has a PKCS#8 form")
        .to_bytes()
}

fn p256_scalar(stream: &[u8; 40]) -> [u8; 32] {
    let modulus: U320 = P256_ORDER_LESS_ONE.resize();
    let modulus = NonZero::new(modulus).expect("n - 1 is not zero");
    let reduced: U256 = U320::from_be_slice(stream.as_slice()).rem(&modulus).resize();
    reduced.wrapping_add(&U256::ONE).to_be_bytes().into()
}

fn expand<const N: usize>(shared: &[u8; 32], purpose: &str) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::new(None, shared)
        .expand(purpose.as_bytes(), &mut out)
        .expect("HKDF-SHA-256 gives up to 8160 bytes");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `cryptography` HKDF and integers.
    #[test]
    fn known_answers() {
        let shared: [u8; 32] = std::array::from_fn(|i| i as u8);
        assert_eq!(
            hex::encode(derive(&shared, "csrf")),
            "13ef791f107832aaea70f6f0b20e450d02eb363bf3e21d28f2d6f576e0c6f908"
        );
        assert_eq!(
            hex::encode(p256_scalar(&expand(&shared, "derived-jwt-signing-key"))),
            "c43bdade52f1252bb20436d5fd9abbb8e6befe69f9386216a3f70cf90835dcac"
        );
        assert_eq!(
            hex::encode(p256_scalar(&authority_stream(&shared))),
            "2c95e2ae0a30035ddea723d3b20d2d6946eb4dccf15a1e4a737b5b8ab643bf0e"
        );
    }

    #[test]
    fn purposes_and_secrets_do_not_share_keys() {
        assert_ne!(derive(&[1; 32], "a"), derive(&[1; 32], "b"));
        assert_ne!(derive(&[1; 32], "a"), derive(&[2; 32], "a"));
        assert_eq!(p256_pkcs8(&[1; 32], "a"), p256_pkcs8(&[1; 32], "a"));
        assert_ne!(p256_pkcs8(&[1; 32], "a"), p256_pkcs8(&[1; 32], "b"));
    }
}
