//! Private keys as they come in PEM files, and what they can do.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING as P256, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::DecodePublicKey as _;
use rustls_pki_types::pem::{self, SectionKind};
use zeroize::Zeroizing;

use super::Algorithm;
use super::jwk::Material;
use crate::encoding::base64_decode;

/// Why a signing key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// Neither PEM nor base64 of PEM.
    #[error("is neither PEM nor base64 of PEM: it has to begin with `-----BEGIN ... PRIVATE KEY-----`")]
    NotPem,
    /// Protected by a passphrase.
    #[error("is encrypted: store it without a passphrase (`openssl pkey -in key.pem -out plain.pem`)")]
    Encrypted,
    /// No private key in the first place.
    #[error("holds no private key in its first PEM block")]
    NoPrivateKey,
    /// A private key of another kind.
    #[error("is neither an EC key on P-256 nor an RSA key of 2048 bits or more (PEM block {block})")]
    Unsupported {
        /// Which PEM block, from 1.
        block: usize,
    },
}

/// A PEM block: what it is labelled, and its DER.
pub(super) type Block = (SectionKind, Zeroizing<Vec<u8>>);

/// A private key, ready to sign.
pub(super) enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// The PEM text itself, whether it came plain or as base64.
pub(super) fn unwrap_base64(text: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
    let text = std::str::from_utf8(text)
        .map_err(|_| SigningKeyError::NotPem)?
        .trim();
    let pem = if text.contains("-----BEGIN") {
        text.as_bytes().to_vec()
    } else {
        base64_decode(text).map_err(|_| SigningKeyError::NotPem)?
    };
    let contains = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    match (contains(b"-----BEGIN"), contains(b"ENCRYPTED")) {
        (false, _) => Err(SigningKeyError::NotPem),
        (true, true) => Err(SigningKeyError::Encrypted),
        (true, false) => Ok(pem),
    }
}

/// Every key block, in order. Other blocks (`EC PARAMETERS`, certificates) are passed over.
pub(super) fn read_blocks(mut pem: &[u8]) -> Result<Vec<Block>, SigningKeyError> {
    let mut blocks = Vec::new();
    while let Some((kind, der)) = pem::from_buf(&mut pem).map_err(|_| SigningKeyError::NotPem)? {
        let der = Zeroizing::new(der);
        if matches!(
            kind,
            SectionKind::PrivateKey
                | SectionKind::EcPrivateKey
                | SectionKind::RsaPrivateKey
                | SectionKind::PublicKey
        ) {
            blocks.push((kind, der));
        }
    }
    Ok(blocks)
}

impl Pair {
    /// Reads one block; `None` for a key that cannot sign here.
    pub fn read(kind: SectionKind, der: &[u8]) -> Option<Self> {
        match kind {
            SectionKind::EcPrivateKey => EcdsaKeyPair::from_private_key_der(&P256, der).ok().map(Self::Ec),
            SectionKind::RsaPrivateKey => RsaKeyPair::from_der(der).ok().map(Self::Rsa),
            SectionKind::PrivateKey => {
                let ec = EcdsaKeyPair::from_pkcs8(&P256, der).ok().map(Self::Ec);
                ec.or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(Self::Rsa))
            }
            _ => None,
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ec(_) => Algorithm::Es256,
            Self::Rsa(_) => Algorithm::Rs256,
        }
    }

    /// `None` when the cryptographic library fails.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let rng = SystemRandom::new();
        match self {
            Self::Ec(pair) => pair
                .sign(&rng, message)
                .ok()
                .map(|signature| signature.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    /// The public half.
    pub fn material(&self) -> Material {
        match self {
            Self::Ec(pair) => Material::P256(pair.public_key().as_ref().to_vec()),
            Self::Rsa(pair) => rsa_material(pair.public_key()),
        }
    }
}

fn rsa_material(key: &aws_lc_rs::rsa::PublicKey) -> Material {
    Material::Rsa {
        n: key.modulus().big_endian_without_leading_zero().to_vec(),
        e: key.exponent().big_endian_without_leading_zero().to_vec(),
    }
}

pub(super) fn public_from_spki(der: &[u8]) -> Option<Material> {
    if let Ok(key) = p256::PublicKey::from_public_key_der(der) {
        return Some(Material::P256(key.to_sec1_point(false).as_bytes().to_vec()));
    }
    aws_lc_rs::rsa::PublicKey::from_der(der)
        .ok()
        .as_ref()
        .map(rsa_material)
}
