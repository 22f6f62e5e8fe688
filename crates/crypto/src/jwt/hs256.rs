//! HMAC-SHA-256 tokens: made and read by us alone, under a key derived or shared between our services.

use aws_lc_rs::hmac;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::JwtError;
use super::compact::{MAX_TOKEN, Parts, append_signature, signing_input};

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// Signs `claims` (spec authentication.md 7).
///
/// # Panics
/// When the claims have no JSON form (a map whose keys are not text). A plain derived struct always has one.
#[must_use]
pub fn hs256_sign<T: Serialize + ?Sized>(key: &[u8], claims: &T) -> String {
    let mut token = signing_input(HEADER, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), token.as_bytes());
    append_signature(&mut token, tag.as_ref());
    token
}

/// Reads the claims of a token signed under `key`, up to [`MAX_TOKEN`] bytes long. `exp`, `nbf`, `iss` and
/// `aud` are **not** looked at: what they mean is up to the caller.
///
/// # Errors
/// [`JwtError`]; any algorithm but HS256 is [`JwtError::Algorithm`].
pub fn hs256_verify<T: DeserializeOwned>(key: &[u8], token: &str) -> Result<T, JwtError> {
    hs256_verify_within(key, token, MAX_TOKEN)
}

/// [`hs256_verify`] with a limit of the caller's on the length, in bytes.
///
/// # Errors
/// As [`hs256_verify`].
pub fn hs256_verify_within<T: DeserializeOwned>(key: &[u8], token: &str, max: usize) -> Result<T, JwtError> {
    let parts = Parts::split(token, max)?;
    // Our own header needs no parsing; other services of ours may order it differently.
    if parts.header != HEADER && parts.read_header()?.alg != "HS256" {
        return Err(JwtError::Algorithm);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::verify(&key, parts.signed.as_bytes(), &parts.signature).map_err(|_| JwtError::Signature)?;
    parts.into_payload()?.read()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::encoding::base64url_decode;

    #[test]
    fn the_header_is_what_it_says() {
        assert_eq!(
            base64url_decode(HEADER).unwrap(),
            br#"{"alg":"HS256","typ":"JWT"}"#
        );
    }

    /// RFC 7515, appendix A.1: another header spelling, line breaks in the JSON.
    #[test]
    fn reads_the_example_of_the_rfc() {
        let key = base64url_decode(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        )
        .unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
                     .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
                     .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let claims: Value = hs256_verify(&key, token).unwrap();
        assert_eq!(
            claims,
            json!({"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true})
        );
    }

    #[test]
    fn another_implementation_agrees() {
        use jsonwebtoken as other;
        let claims = json!({"jti": "a", "iat": 1});
        let token = hs256_sign(b"key", &claims);
        let mut checks = other::Validation::new(other::Algorithm::HS256);
        checks.validate_exp = false;
        checks.required_spec_claims.clear();
        let read = other::decode::<Value>(&token, &other::DecodingKey::from_secret(b"key"), &checks).unwrap();
        assert_eq!(read.claims, claims);

        let key = other::EncodingKey::from_secret(b"key");
        let theirs = other::encode(&other::Header::new(other::Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(hs256_verify::<Value>(b"key", &theirs).unwrap(), claims);
    }

    #[test]
    fn other_keys_and_changed_parts_are_refused() {
        let token = hs256_sign(b"key", &json!({"sub": "a"}));
        assert_eq!(hs256_verify::<Value>(b"kez", &token), Err(JwtError::Signature));
        let other = hs256_sign(b"other", &json!({"sub": "b"}));
        let swapped = [
            HEADER,
            other.split('.').nth(1).unwrap(),
            token.split('.').nth(2).unwrap(),
        ]
        .join(".");
        assert_eq!(hs256_verify::<Value>(b"key", &swapped), Err(JwtError::Signature));
        let cut = token.rsplit_once('.').unwrap().0;
        assert_eq!(
            hs256_verify::<Value>(b"key", &format!("{cut}.")),
            Err(JwtError::Signature)
        );
        assert_eq!(hs256_verify::<Value>(b"key", cut), Err(JwtError::Malformed));
    }

    #[test]
    fn claims_must_be_an_object_of_the_expected_shape() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Claims {
            sub: String,
        }
        let read = |claims: Value| hs256_verify::<Claims>(b"key", &hs256_sign(b"key", &claims));
        assert_eq!(
            read(json!({"sub": "a", "more": 1})),
            Ok(Claims { sub: "a".into() })
        );
        assert_eq!(read(json!(["a"])), Err(JwtError::Malformed));
        assert_eq!(read(json!("a")), Err(JwtError::Malformed));
        assert!(matches!(read(json!({"sub": 1})), Err(JwtError::Shape(_))));
    }
}
