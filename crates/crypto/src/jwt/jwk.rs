//! Public keys of others: JWK sets (RFC 7517), and the tokens they vouch for.

use aws_lc_rs::signature::{self as sig, UnparsedPublicKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claims::Registered;
use super::compact::{MAX_TOKEN, Parts, Payload};
use super::{Algorithm, Expect, JwtError};
use crate::encoding::base64url_decode;

/// How many keys are tried on a token that names none.
const MAX_TRIES: usize = 16;

/// Why a document is not a key set.
#[derive(Debug, thiserror::Error)]
pub enum JwkSetError {
    /// Not `{"keys": [...]}`.
    #[error("not a JSON Web Key Set: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A set of public keys. Keys that are not for signatures, of a kind unknown here or symmetric are left out
/// (RFC 7517, 5).
#[derive(Debug, Clone, Default)]
pub struct JwkSet {
    keys: Vec<PublicKey>,
}

#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    pub kid: Option<String>,
    /// `alg` of the JWK: the key is for this one only.
    pub algorithm: Option<Algorithm>,
    pub material: Material,
}

#[derive(Debug, Clone)]
pub(super) enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed points.
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl JwkSet {
    /// Reads a key set document.
    ///
    /// # Errors
    /// When it is not a JSON object with a list `keys`. A set without a usable key is no error:
    /// see [`JwkSet::is_empty`].
    pub fn parse(json: &[u8]) -> Result<Self, JwkSetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let document: Document = serde_json::from_slice(json)?;
        let keys = document
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self::from_keys(
            keys.filter_map(RawJwk::into_public_key).collect(),
        ))
    }

    pub(super) fn from_keys(keys: Vec<PublicKey>) -> Self {
        Self { keys }
    }

    /// How many usable keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no usable key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks a token of at most [`MAX_TOKEN`] bytes: algorithm, key, signature, then `iss`, `aud`, `exp`
    /// (required), `nbf` and `iat`.
    ///
    /// # Errors
    /// [`JwtError`]; on [`JwtError::UnknownKey`] the set may be out of date.
    pub fn verify<T: DeserializeOwned>(&self, token: &str, expect: &Expect<'_>) -> Result<T, JwtError> {
        let payload = self.check_signature(token, expect.algorithms)?;
        payload.read::<Registered>()?.check(expect)?;
        payload.read()
    }

    pub(super) fn check_signature(&self, token: &str, accepted: &[Algorithm]) -> Result<Payload, JwtError> {
        let parts = Parts::split(token, MAX_TOKEN)?;
        let header = parts.read_header()?;
        let algorithm = Algorithm::from_name(&header.alg).filter(|named| accepted.contains(named));
        let algorithm = algorithm.ok_or(JwtError::Algorithm)?;

        let kid = header.kid.as_deref();
        let mut named_key_failed = false;
        for key in self.candidates(kid, algorithm).take(MAX_TRIES) {
            if key
                .material
                .verify(algorithm, parts.signed.as_bytes(), &parts.signature)
            {
                return parts.into_payload();
            }
            named_key_failed |= kid.is_some() && key.kid.as_deref() == kid;
        }
        // Keys without names may have been replaced by others without names.
        Err(if named_key_failed {
            JwtError::Signature
        } else {
            JwtError::UnknownKey
        })
    }

    /// Keys that fit the algorithm and are not named differently.
    fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().filter(move |key| {
            key.material.fits(algorithm)
                && key.algorithm.is_none_or(|only| only == algorithm)
                && (kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid)
        })
    }
}

impl Material {
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        match self {
            Self::Rsa { .. } => matches!(
                algorithm,
                A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512
            ),
            Self::P256(_) => algorithm == A::Es256,
            Self::P384(_) => algorithm == A::Es384,
            Self::P521(_) => algorithm == A::Es512,
            Self::Ed25519(_) => algorithm == A::EdDsa,
        }
    }

    /// RSA keys under 2048 bits verify nothing.
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        use Algorithm as A;
        let with = |verifier, key: &[u8]| {
            UnparsedPublicKey::new(verifier, key)
                .verify(message, signature)
                .is_ok()
        };
        match (self, algorithm) {
            (Self::P256(point), A::Es256) => with(&sig::ECDSA_P256_SHA256_FIXED, point),
            (Self::P384(point), A::Es384) => with(&sig::ECDSA_P384_SHA384_FIXED, point),
            (Self::P521(point), A::Es512) => with(&sig::ECDSA_P521_SHA512_FIXED, point),
            (Self::Ed25519(key), A::EdDsa) => with(&sig::ED25519, key),
            (Self::Rsa { n, e }, _) => rsa_parameters(algorithm).is_some_and(|parameters| {
                sig::RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
                    .is_ok()
            }),
            _ => false,
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static sig::RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &sig::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &sig::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &sig::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &sig::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &sig::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &sig::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// A JWK as it is written.
#[derive(Deserialize)]
struct RawJwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl RawJwk {
    fn into_public_key(self) -> Option<PublicKey> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        // A key for an algorithm we do not know (or for encryption) is not for us.
        let algorithm = match self.alg.as_deref() {
            None => None,
            Some(name) => Some(Algorithm::from_name(name)?),
        };
        let material = self.material()?;
        Some(PublicKey {
            kid: self.kid,
            algorithm,
            material,
        })
    }

    fn material(&self) -> Option<Material> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(Material::Rsa {
                n: unsigned(self.n.as_deref()?)?,
                e: unsigned(self.e.as_deref()?)?,
            }),
            ("EC", Some("P-256")) => self.point(32).map(Material::P256),
            ("EC", Some("P-384")) => self.point(48).map(Material::P384),
            ("EC", Some("P-521")) => self.point(66).map(Material::P521),
            ("OKP", Some("Ed25519")) => {
                let key = base64url_decode(self.x.as_deref()?).ok()?;
                (key.len() == 32).then_some(Material::Ed25519(key))
            }
            _ => None,
        }
    }

    /// `04 ‖ x ‖ y`. Some writers drop leading zeros of a coordinate.
    fn point(&self, width: usize) -> Option<Vec<u8>> {
        let mut out = vec![4];
        for text in [self.x.as_deref()?, self.y.as_deref()?] {
            let coordinate = base64url_decode(text).ok()?;
            let missing = width.checked_sub(coordinate.len())?;
            out.resize(out.len() + missing, 0);
            out.extend_from_slice(&coordinate);
        }
        Some(out)
    }
}

/// Some writers add a zero byte in front, as DER does.
fn unsigned(text: &str) -> Option<Vec<u8>> {
    let bytes = base64url_decode(text).ok()?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[start..].to_vec())
}
