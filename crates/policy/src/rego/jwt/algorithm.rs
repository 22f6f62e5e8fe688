//! What a token may be signed with.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

use super::keys::{Curve, Key};

/// Algorithms of RFC 7518 and 8037 that verify something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

const ALL: [Algorithm; 13] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
];

/// How an algorithm checks a signature.
enum Check {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    Ecdsa(Curve, &'static EcdsaVerificationAlgorithm),
    Ed25519,
}

impl Algorithm {
    /// As the header of a token names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether the key is a secret.
    pub(super) const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// A key of another kind verifies nothing.
    pub(super) fn verifies(self, key: &Key, signed: &[u8], signature: &[u8]) -> bool {
        match (self.check(), key) {
            (Check::Hmac(algorithm), Key::Secret(secret)) => {
                let key = hmac::Key::new(algorithm, secret);
                hmac::verify(&key, signed, signature).is_ok()
            }
            (Check::Rsa(parameters), Key::Rsa(der)) => verifies(parameters, der, signed, signature),
            (Check::Rsa(parameters), Key::RsaParts { n, e }) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, signed, signature).is_ok()
            }
            (Check::Ecdsa(wanted, algorithm), Key::Ec(curve, point)) => {
                wanted == *curve && verifies(algorithm, point, signed, signature)
            }
            (Check::Ed25519, Key::Ed25519(key)) => verifies(&signature::ED25519, key, signed, signature),
            _ => false,
        }
    }

    fn check(self) -> Check {
        match self {
            Self::Hs256 => Check::Hmac(hmac::HMAC_SHA256),
            Self::Hs384 => Check::Hmac(hmac::HMAC_SHA384),
            Self::Hs512 => Check::Hmac(hmac::HMAC_SHA512),
            Self::Rs256 => Check::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Check::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Check::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Check::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Check::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Check::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 => Check::Ecdsa(Curve::P256, &signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Check::Ecdsa(Curve::P384, &signature::ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Check::Ecdsa(Curve::P521, &signature::ECDSA_P521_SHA512_FIXED),
            Self::EdDsa => Check::Ed25519,
        }
    }
}

fn verifies(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key)
        .verify(signed, signature)
        .is_ok()
}
