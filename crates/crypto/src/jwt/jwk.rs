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

    /// Checks algorithm, key and signature alone, for signed messages that need no `exp` (user info, OpenID
    /// Connect Core 1.0, 5.3.2). What the claims say is left to the caller.
    ///
    /// # Errors
    /// [`JwtError`]; on [`JwtError::UnknownKey`] the set may be out of date.
    pub fn verify_signature<T: DeserializeOwned>(
        &self,
        token: &str,
        algorithms: &[Algorithm],
    ) -> Result<T, JwtError> {
        self.check_signature(token, algorithms)?.read()
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

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "`json!` straight into a helper reads best"
)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CLAIMS: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

    fn set(key: Value) -> JwkSet {
        JwkSet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap()
    }

    fn reads_the_rfc_claims(key: Value, algorithm: Algorithm, token: &str) {
        let expect = Expect {
            issuer: Some("joe"),
            audience: None,
            algorithms: &[algorithm],
            now: 1_300_819_379,
            leeway: 0,
        };
        let claims: Value = set(key).verify(token, &expect).unwrap();
        assert_eq!(claims["http://example.com/is_root"], true);
    }

    /// RFC 7515, A.2.
    #[test]
    fn rs256_of_the_rfc() {
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let token = format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{signature}");
        reads_the_rfc_claims(
            json!({"kty": "RSA", "n": n, "e": "AQAB"}),
            Algorithm::Rs256,
            &token,
        );
        let padded = crate::encoding::base64url_encode(&[&[0], &base64url_decode(n).unwrap()[..]].concat());
        reads_the_rfc_claims(
            json!({"kty": "RSA", "n": padded, "e": "AQAB"}),
            Algorithm::Rs256,
            &token,
        );
    }

    /// RFC 7515, A.3.
    #[test]
    fn es256_of_the_rfc() {
        let key = json!({"kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let signature =
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        reads_the_rfc_claims(
            key,
            Algorithm::Es256,
            &format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.{signature}"),
        );
    }

    /// RFC 8037, A.4 (its payload is no JSON: only the signature is looked at).
    #[test]
    fn eddsa_of_the_rfc() {
        let set =
            set(json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}));
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
                     hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(set.check_signature(token, &[Algorithm::EdDsa]).is_ok());
        let changed = token.replacen("RXhh", "RXhi", 1);
        assert_eq!(
            set.check_signature(&changed, &[Algorithm::EdDsa]).err(),
            Some(JwtError::UnknownKey)
        );
    }

    #[test]
    fn every_rsa_and_larger_curve_algorithm_agrees_with_another_implementation() {
        use jsonwebtoken as other;
        let rsa = include_bytes!("../../testdata/rsa-pkcs1.pem");
        let jwks = super::super::SigningKey::from_pem(rsa).unwrap().jwks();
        let mut jwk = jwks["keys"][0].clone();
        jwk.as_object_mut().unwrap().remove("alg");
        let key = other::EncodingKey::from_rsa_pem(rsa).unwrap();
        for (theirs, ours) in [
            (other::Algorithm::RS256, Algorithm::Rs256),
            (other::Algorithm::RS384, Algorithm::Rs384),
            (other::Algorithm::RS512, Algorithm::Rs512),
            (other::Algorithm::PS256, Algorithm::Ps256),
            (other::Algorithm::PS384, Algorithm::Ps384),
            (other::Algorithm::PS512, Algorithm::Ps512),
        ] {
            let token = other::encode(&other::Header::new(theirs), &json!({"a": 1}), &key).unwrap();
            assert!(
                set(jwk.clone()).check_signature(&token, &[ours]).is_ok(),
                "{}",
                ours.name()
            );
        }
    }

    #[test]
    fn p384_and_p521_check_signatures() {
        use crate::encoding::base64url_encode;
        use aws_lc_rs::rand::SystemRandom;
        use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};
        for (signing, crv, algorithm, width) in [
            (
                &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
                "P-384",
                Algorithm::Es384,
                48,
            ),
            (
                &sig::ECDSA_P521_SHA512_FIXED_SIGNING,
                "P-521",
                Algorithm::Es512,
                66,
            ),
        ] {
            let pair = EcdsaKeyPair::generate(signing).unwrap();
            let (x, y) = pair.public_key().as_ref()[1..].split_at(width);
            let set =
                set(json!({"kty": "EC", "crv": crv, "x": base64url_encode(x), "y": base64url_encode(y)}));
            let header = base64url_encode(json!({"alg": algorithm.name()}).to_string().as_bytes());
            let mut token = format!("{header}.e30");
            let signature = pair.sign(&SystemRandom::new(), token.as_bytes()).unwrap();
            token = format!("{token}.{}", base64url_encode(signature.as_ref()));
            assert!(set.check_signature(&token, &[algorithm]).is_ok(), "{crv}");
        }
    }

    #[test]
    fn unusable_keys_are_passed_over() {
        let keys = json!({"keys": [
            {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
            {"kty": "EC", "crv": "P-256", "x": "AA"},
            {"kty": "EC", "crv": "P-256", "x": "A".repeat(64), "y": "AA"},
            {"kty": "OKP", "crv": "X25519", "x": "AA"},
            {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
            {"kty": "RSA", "n": "AQAB"},
            {"kty": "RSA", "n": "AAAA", "e": "AQAB"},
            {"kty": "RSA", "n": "not base64!", "e": "AQAB"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RSA-OAEP"},
            {"kty": "oct", "k": "AA"},
            {"kty": 1},
            "text",
        ]});
        assert!(JwkSet::parse(keys.to_string().as_bytes()).unwrap().is_empty());
        for bad in ["", "[]", "{}", r#"{"keys": {}}"#] {
            assert!(JwkSet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(
            set(json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"})).len(),
            1,
            "short coordinates are padded"
        );
    }

    /// A true signature by a 1024-bit key, made with OpenSSL: refused for the size of the key alone.
    #[test]
    fn small_rsa_keys_verify_nothing() {
        let n = base64url_decode("tF1um8LaFKTWVzbqTQdvB0nv4ASU7Gv0okyhbWNdAAVtMmEvhTvgQUopJmRPVctAhvmeHSlzqiLe6qEFHe2AN03n3WOyhOfHjcMBnAAHORehygsrJ5DqiF-LnGJG1Ie7yWZitszs7vnHXtHSmZw1yihUiOF_NL4VL79V-VfCPGc").unwrap();
        let signature = base64url_decode("byiHmrewdF1EdiwCVKTYHFHaHPOGk11E5sU8ezDdLcowY-oH1cVGJdJOm_TjFhI7fsJ182kAxxEG7UX4XU4Y2b-D0oewYhivweVGUvhaScZ5Ml1LLPa_1yM3oJlg8LtuhdWvoyaRZxmc5nYy_8rtrK8uT467hPRVXVwF3O8cdmQ").unwrap();
        let e = vec![1, 0, 1];
        let lax = &sig::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
        assert!(
            sig::RsaPublicKeyComponents { n: &n, e: &e }
                .verify(lax, b"message", &signature)
                .is_ok()
        );
        assert!(!Material::Rsa { n, e }.verify(Algorithm::Rs256, b"message", &signature));
    }
}
