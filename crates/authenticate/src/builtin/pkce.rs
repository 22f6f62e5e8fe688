//! Proof key for code exchange, server side (RFC 7636). Only S256 exists here.

use pomerium_crypto::{ct, encoding};
use sha2::{Digest, Sha256};

/// Whether a challenge can be one: 43 characters of unpadded base64url.
pub fn valid_challenge(challenge: &str) -> bool {
    challenge.len() == 43
        && challenge
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether `verifier` (43 to 128 unreserved characters) is the one behind `challenge`.
pub fn matches(challenge: &str, verifier: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
        return false;
    }
    let hashed = encoding::base64url_encode(&Sha256::digest(verifier.as_bytes()));
    ct::eq(hashed.as_bytes(), challenge.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(valid_challenge(challenge));
        assert!(matches(challenge, verifier));
        assert!(!matches(challenge, &verifier[..42]));
        assert!(!matches(challenge, challenge), "the plain method does not exist");
        assert!(!valid_challenge(&challenge[1..]));
    }
}
