//! Proof keys for code exchange (RFC 7636), S256 only.

use pomerium_crypto::{encoding, random};
use sha2::{Digest, Sha256};

/// A verifier kept by us, and the challenge the provider gets to see.
#[derive(Clone)]
pub struct Pkce {
    verifier: String,
}

impl Pkce {
    /// A new random verifier: 32 bytes, 43 characters.
    pub fn new() -> Self {
        Self {
            verifier: random::base64url(32),
        }
    }

    /// From a verifier kept since the start of the sign-in.
    pub fn from_verifier(verifier: String) -> Self {
        Self { verifier }
    }

    /// The secret half, for the token request.
    pub fn verifier(&self) -> &str {
        &self.verifier
    }

    /// The public half, for the authorization request.
    pub fn challenge(&self) -> String {
        encoding::base64url_encode(&Sha256::digest(self.verifier.as_bytes()))
    }
}

impl Default for Pkce {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Pkce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkce")
            .field("challenge", &self.challenge())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Pkce;

    #[test]
    fn challenge_is_that_of_rfc_7636_appendix_b() {
        let pkce = Pkce::from_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
        assert_eq!(pkce.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(!format!("{pkce:?}").contains(pkce.verifier()));
    }

    #[test]
    fn verifiers_are_new_each_time() {
        let (a, b) = (Pkce::new(), Pkce::new());
        assert_eq!(a.verifier().len(), 43);
        assert_ne!(a.verifier(), b.verifier());
    }
}
