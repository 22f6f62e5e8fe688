//! Our own asymmetric key: signs what upstreams and clients check, publishes its public half.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as P256, EcdsaKeyPair};
use rustls_pki_types::pem::SectionKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::compact::{append_signature, signing_input};
use super::jwk::{Material, PublicKey};
use super::key_pair::{Pair, public_from_spki, read_blocks, unwrap_base64};
use super::{Algorithm, JwkSet, JwtError, SigningKeyError};
use crate::encoding::base64url_encode;
use crate::kdf;

/// HKDF info of the key made from the shared secret (spec authentication.md 1).
const DERIVED: &str = "derived-jwt-signing-key";

/// A private key with its name and its published form. The first PEM block signs, all are published.
pub struct SigningKey {
    pair: Pair,
    kid: String,
    /// The encoded header of every token.
    header: String,
    jwks: Value,
    published: JwkSet,
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

    /// As [`Self::sign`], under the name that somebody else has given this key; without `kid` when that is empty.
    ///
    /// # Errors
    /// [`JwtError::Signing`] when the cryptographic library fails; not expected.
    ///
    /// # Panics
    /// When the claims have no JSON form (a map whose keys are not text).
    pub fn sign_as<T: Serialize + ?Sized>(&self, kid: &str, claims: &T) -> Result<String, JwtError> {
        let mut header = json!({"alg": self.alg(), "typ": "JWT"});
        if !kid.is_empty() {
            header["kid"] = kid.into();
        }
        let mut token = signing_input(&base64url_encode(header.to_string().as_bytes()), claims);
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

#[cfg(test)]
impl SigningKey {
    /// What an attacker with a key of their own can make: any header over any bytes.
    pub(super) fn sign_raw(&self, header: &str, payload: &[u8]) -> String {
        let mut token = format!("{header}.{}", base64url_encode(payload));
        let signature = self.pair.sign(token.as_bytes()).unwrap();
        append_signature(&mut token, &signature);
        token
    }

    pub(super) fn sign_parts(&self, header: &str, claims: &Value) -> String {
        self.sign_raw(header, claims.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{base64_encode, base64url_decode};

    const EC: &str = include_str!("../../testdata/ec-sec1.pem");
    const RSA: &str = include_str!("../../testdata/rsa-pkcs1.pem");
    const P384: &str = include_str!("../../testdata/ec-p384.pem");
    const ENCRYPTED: &str = include_str!("../../testdata/ec-encrypted.pem");

    fn read(text: &str) -> Result<SigningKey, SigningKeyError> {
        SigningKey::from_pem(text.as_bytes())
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            base64_encode(der)
        )
    }

    #[test]
    fn reads_every_usual_form() {
        let ec = read(EC).unwrap();
        let rsa = read(RSA).unwrap();
        assert_eq!((ec.alg(), rsa.alg()), ("ES256", "RS256"));
        assert_eq!(read(&base64_encode(EC.as_bytes())).unwrap().kid(), ec.kid());
        assert_eq!(read(&format!("\n  {RSA}\n")).unwrap().kid(), rsa.kid());
        let Pair::Ec(pair) = &ec.pair else {
            panic!("an EC key")
        };
        let pkcs8 = pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref());
        assert_eq!(read(&pkcs8).unwrap().kid(), ec.kid());
        let Pair::Rsa(pair) = &rsa.pair else {
            panic!("an RSA key")
        };
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = aws_lc_rs::encoding::AsDer::as_der(pair).unwrap();
        assert_eq!(
            read(&pem("PRIVATE KEY", pkcs8.as_ref())).unwrap().kid(),
            rsa.kid()
        );
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(read("").unwrap_err(), SigningKeyError::NotPem);
        assert_eq!(read("certainly not").unwrap_err(), SigningKeyError::NotPem);
        assert_eq!(read("bm90IHBlbQ==").unwrap_err(), SigningKeyError::NotPem);
        assert_eq!(read(ENCRYPTED).unwrap_err(), SigningKeyError::Encrypted);
        assert_eq!(read(P384).unwrap_err(), SigningKeyError::Unsupported { block: 1 });
        assert_eq!(
            read(&pem("PRIVATE KEY", b"x")).unwrap_err(),
            SigningKeyError::Unsupported { block: 1 }
        );
        assert_eq!(
            read(&pem("CERTIFICATE", b"x")).unwrap_err(),
            SigningKeyError::NoPrivateKey
        );
    }

    #[test]
    fn publishes_all_blocks_and_signs_with_the_first() {
        let public = p256::SecretKey::from_slice(&[9; 32]).unwrap().public_key();
        let spki = p256::pkcs8::EncodePublicKey::to_public_key_der(&public).unwrap();
        let key = read(&format!("{RSA}{EC}{}", pem("PUBLIC KEY", spki.as_bytes()))).unwrap();
        let jwks = key.jwks();
        let kids: Vec<_> = jwks["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|k| k["kid"].as_str().unwrap())
            .collect();
        assert_eq!(kids.len(), 3);
        assert_eq!(kids[..2], [key.kid(), read(EC).unwrap().kid()]);
        let old = read(EC).unwrap().sign(&json!({"a": 1})).unwrap();
        assert_eq!(
            key.verify_own::<Value>(&old),
            Ok(json!({"a": 1})),
            "tokens of an old key stay good"
        );
        let stranger = SigningKey::random().sign(&json!({})).unwrap();
        assert_eq!(key.verify_own::<Value>(&stranger), Err(JwtError::UnknownKey));
        let alone = pem("PUBLIC KEY", spki.as_bytes());
        assert_eq!(read(&alone).unwrap_err(), SigningKeyError::NoPrivateKey);
        assert_eq!(
            read(&format!("{alone}{EC}")).unwrap_err(),
            SigningKeyError::NoPrivateKey
        );
    }

    #[test]
    fn published_keys_have_their_members_and_no_private_ones() {
        for text in [EC, RSA] {
            let key = read(text).unwrap();
            let jwk = key.jwks()["keys"][0].clone();
            assert_eq!(jwk["use"], "sig");
            assert_eq!(jwk["alg"], key.alg());
            assert_eq!(jwk["kid"], key.kid());
            assert_eq!(key.kid().len(), 64);
            for private in ["d", "p", "q", "dp", "dq", "qi"] {
                assert!(jwk.get(private).is_none(), "{private}");
            }
        }
    }

    /// RFC 7638, 3.1.
    #[test]
    fn thumbprint_of_the_rfc() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let material = Material::Rsa {
            n: base64url_decode(n).unwrap(),
            e: vec![1, 0, 1],
        };
        let expected = base64url_decode("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs").unwrap();
        assert_eq!(thumbprint(&material), hex::encode(expected));
    }

    #[test]
    fn derived_keys_depend_on_the_secret_alone() {
        let key = SigningKey::derived(&[1; 32]);
        assert_eq!(key.kid(), SigningKey::derived(&[1; 32]).kid());
        assert_ne!(key.kid(), SigningKey::derived(&[2; 32]).kid());
        assert_ne!(SigningKey::random().kid(), SigningKey::random().kid());
    }

    #[test]
    fn another_implementation_reads_our_tokens() {
        use jsonwebtoken as other;
        for key in [SigningKey::random(), read(RSA).unwrap()] {
            let token = key.sign(&json!({"sub": "a"})).unwrap();
            let header = other::decode_header(&token).unwrap();
            assert_eq!(header.kid.as_deref(), Some(key.kid()));
            assert_eq!(header.typ.as_deref(), Some("JWT"));
            let set: other::jwk::JwkSet = serde_json::from_value(key.jwks()).unwrap();
            let decoding = other::DecodingKey::from_jwk(set.find(key.kid()).unwrap()).unwrap();
            let mut checks = other::Validation::new(header.alg);
            checks.validate_exp = false;
            checks.required_spec_claims.clear();
            let claims = other::decode::<Value>(&token, &decoding, &checks).unwrap().claims;
            assert_eq!(claims, json!({"sub": "a"}));
        }
    }
}
