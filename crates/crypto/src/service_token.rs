//! The token by which services of one installation know each other (spec databroker.md 8.1): HS256 over the shared
//! secret, with one claim, when it ends. A token with any other claim was made for another use and is refused.

use serde::{Deserialize, Deserializer, Serialize};

use crate::jwt::{JwtError, hs256_sign, hs256_verify_within};

/// How long a token is good for, in seconds; each call brings a new one.
const LIFETIME: i64 = 3600;
/// The longest token worth reading, in bytes.
const LONGEST: usize = 512;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    #[serde(deserialize_with = "whole_seconds")]
    exp: i64,
}

/// A number of seconds, which may have a fraction (RFC 7519 section 2). Rounded down: rather too early than too late.
fn whole_seconds<'de, D: Deserializer<'de>>(json: D) -> Result<i64, D::Error> {
    let seconds = f64::deserialize(json)?;
    Ok(seconds.floor() as i64)
}

/// A new token; `now` in unix seconds.
pub fn sign(shared: &[u8; 32], now: i64) -> String {
    let exp = now.saturating_add(LIFETIME);
    hs256_sign(shared, &Claims { exp })
}

/// Accepts a token that was made with `shared` for this use and has not ended at `now` (unix seconds).
///
/// # Errors
/// As [`hs256_verify_within`], and [`JwtError::Expired`]; a claim too many is [`JwtError::Shape`].
pub fn verify(shared: &[u8; 32], token: &str, now: i64) -> Result<(), JwtError> {
    let claims: Claims = hs256_verify_within(shared, token, LONGEST)?;
    if claims.exp <= now {
        return Err(JwtError::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: [u8; 32] = [3; 32];

    #[test]
    fn one_claim_one_secret_one_hour() {
        let now = 1_000_000;
        let token = sign(&KEY, now);
        verify(&KEY, &token, now).unwrap();
        assert!(verify(&[4; 32], &token, now).is_err());
        assert_eq!(verify(&KEY, &token, now + LIFETIME), Err(JwtError::Expired));
        let exp = now + 10;
        for claims in [
            json!({}),
            json!({"exp": "soon"}),
            json!({"exp": exp, "iat": 1}),
            json!({"exp": exp, "jti": "sa1", "sub": "u1"}),
        ] {
            assert!(verify(&KEY, &hs256_sign(&KEY, &claims), now).is_err(), "{claims}");
        }
        let fraction = hs256_sign(&KEY, &json!({"exp": now as f64 + 1.75}));
        verify(&KEY, &fraction, now).unwrap();
        assert_eq!(verify(&KEY, &fraction, now + 1), Err(JwtError::Expired));
        assert!(verify(&KEY, &format!("{token}x"), now).is_err());
        assert!(verify(&KEY, "", now).is_err());
    }
}
