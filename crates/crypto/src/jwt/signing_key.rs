//! Our own asymmetric key: signs what upstreams and clients check, publishes its public half.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING as P256, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::DecodePublicKey as _;
use rustls_pki_types::pem::{self, SectionKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::compact::{append_signature, signing_input};
use super::jwk::{Material, PublicKey};
use super::{Algorithm, JwkSet, JwtError};
use crate::encoding::{base64_decode, base64url_encode};
use crate::kdf;

/// HKDF info of the key made from the shared secret (spec authentication.md 1).
const DERIVED: &str = "derived-jwt-signing-key";

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

/// A private key with its name and its published form. The first PEM block signs, all are published.
pub struct SigningKey {
    pair: Pair,
    kid: String,
    /// The encoded header of every token.
    header: String,
    jwks: Value,
    published: JwkSet,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// Reads `signing_key`: PEM, or base64 of PEM; SEC 1 or PKCS #8 EC keys on P-256, PKCS #1 or PKCS #8 RSA
    /// keys (spec policy.md 11.3). Further blocks, private or public, are only published: old keys whose
    /// tokens are still about.
    ///
    /// # Errors
    /// [`SigningKeyError`]; the texts are written to follow the name of the setting and never hold key
    /// material.
    pub fn from_pem(text: &[u8]) -> Result<Self, SigningKeyError> {
        let pem = Zeroizing::new(unwrap_base64(text)?);
        let blocks = read_blocks(&pem)?;
        let mut published = Vec::new();
        let mut signing = None;
        for (i, (kind, der)) in blocks.iter().enumerate() {
            let unsupported = SigningKeyError::Unsupported { block: i + 1 };
            if *kind == SectionKind::PublicKey {
                published.push(public_from_spki(der).ok_or(unsupported)?);
                continue;
            }
            let pair = Pair::read(*kind, der).ok_or(unsupported)?;
            published.push(pair.material());
            if i == 0 {
                signing = Some(pair);
            }
        }
        signing
            .map(|pair| Self::new(pair, published))
            .ok_or(SigningKeyError::NoPrivateKey)
    }

    /// The key every service derives from the shared secret when no signing key is set
    /// (spec authentication.md 1).
    ///
    /// # Panics
    /// Never: a derived key is a valid key.
    #[must_use]
    pub fn derived(shared: &[u8; 32]) -> Self {
        let der = kdf::p256_pkcs8(shared, DERIVED);
        let pair = EcdsaKeyPair::from_pkcs8(&P256, &der).expect("a derived key is a P-256 key");
        Self::from_pair(Pair::Ec(pair))
    }

    /// A fresh P-256 key.
    ///
    /// # Panics
    /// When the operating system has no randomness.
    #[must_use]
    pub fn random() -> Self {
        let pair = EcdsaKeyPair::generate(&P256).expect("the operating system provides randomness");
        Self::from_pair(Pair::Ec(pair))
    }

    fn from_pair(pair: Pair) -> Self {
        let published = vec![pair.material()];
        Self::new(pair, published)
    }

    fn new(pair: Pair, published: Vec<Material>) -> Self {
        let keys: Vec<_> = published.into_iter().map(name_key).collect();
        let kid = thumbprint(&keys[0].material);
        let header = json!({"alg": pair.algorithm().name(), "kid": kid, "typ": "JWT"});
        Self {
            kid,
            header: base64url_encode(header.to_string().as_bytes()),
            jwks: json!({"keys": keys.iter().map(publish).collect::<Vec<_>>()}),
            published: JwkSet::from_keys(keys),
            pair,
        }
    }

    /// Signs `claims`; the header holds `alg`, `kid` and `typ: JWT` (spec policy.md 11.1).
    ///
    /// # Errors
    /// [`JwtError::Signing`] when the cryptographic library fails; not expected.
    ///
    /// # Panics
    /// When the claims have no JSON form (a map whose keys are not text).
    pub fn sign<T: Serialize + ?Sized>(&self, claims: &T) -> Result<String, JwtError> {
        let mut token = signing_input(&self.header, claims);
        let signature = self.pair.sign(token.as_bytes()).ok_or(JwtError::Signing)?;
        append_signature(&mut token, &signature);
        Ok(token)
    }

    /// Reads a token signed by this key or by another one of the same PEM file. Times, issuer and audience
    /// are **not** looked at.
    ///
    /// # Errors
    /// [`JwtError`].
    pub fn verify_own<T: DeserializeOwned>(&self, token: &str) -> Result<T, JwtError> {
        self.published
            .check_signature(token, &[Algorithm::Es256, Algorithm::Rs256])?
            .read()
    }

    /// The key's name: the SHA-256 thumbprint (RFC 7638) in lower-case hex.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// `ES256` or `RS256`.
    #[must_use]
    pub fn alg(&self) -> &'static str {
        self.pair.algorithm().name()
    }

    /// The JWK set to publish: `{"keys": [...]}`, each with `use`, `alg` and `kid`
    /// (spec authentication.md 14).
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.jwks.clone()
    }

    /// The published keys, ready to check tokens with.
    #[must_use]
    pub fn jwk_set(&self) -> &JwkSet {
        &self.published
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("alg", &self.alg())
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// The PEM text itself, whether it came plain or as base64.
fn unwrap_base64(text: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
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
fn read_blocks(mut pem: &[u8]) -> Result<Vec<(SectionKind, Zeroizing<Vec<u8>>)>, SigningKeyError> {
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
    fn read(kind: SectionKind, der: &[u8]) -> Option<Self> {
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

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ec(_) => Algorithm::Es256,
            Self::Rsa(_) => Algorithm::Rs256,
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
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

    fn material(&self) -> Material {
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

fn public_from_spki(der: &[u8]) -> Option<Material> {
    if let Ok(key) = p256::PublicKey::from_public_key_der(der) {
        return Some(Material::P256(key.to_sec1_point(false).as_bytes().to_vec()));
    }
    aws_lc_rs::rsa::PublicKey::from_der(der)
        .ok()
        .as_ref()
        .map(rsa_material)
}

fn name_key(material: Material) -> PublicKey {
    let algorithm = if matches!(material, Material::Rsa { .. }) {
        Algorithm::Rs256
    } else {
        Algorithm::Es256
    };
    PublicKey {
        kid: Some(thumbprint(&material)),
        algorithm: Some(algorithm),
        material,
    }
}

/// The members RFC 7638 hashes, in its order (serde_json sorts the keys of an object).
fn required_members(material: &Material) -> Value {
    match material {
        Material::Rsa { n, e } => json!({"e": base64url_encode(e), "kty": "RSA", "n": base64url_encode(n)}),
        Material::P256(point) => {
            let (x, y) = point[1..].split_at(32);
            json!({"crv": "P-256", "kty": "EC", "x": base64url_encode(x), "y": base64url_encode(y)})
        }
        Material::P384(_) | Material::P521(_) | Material::Ed25519(_) => {
            unreachable!("our own keys are P-256 or RSA")
        }
    }
}

fn thumbprint(material: &Material) -> String {
    hex::encode(Sha256::digest(required_members(material).to_string().as_bytes()))
}

fn publish(key: &PublicKey) -> Value {
    let mut jwk = required_members(&key.material);
    jwk["use"] = json!("sig");
    jwk["alg"] = json!(key.algorithm.map(Algorithm::name));
    jwk["kid"] = json!(key.kid);
    jwk
}
