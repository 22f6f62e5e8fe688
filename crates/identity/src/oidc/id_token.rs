//! Checking ID tokens (OpenID Connect Core 1.0, 3.1.3.7).

use jiff::Timestamp;
use pomerium_crypto::ct;
use pomerium_crypto::jwt::{Expect, JwtError};
use serde_json::{Map, Value};

use super::{Metadata, OidcProvider, fetch};
use crate::{IdentityError, claims};

/// How far the provider's clock may be off, in seconds.
pub(super) const LEEWAY: i64 = 60;
/// Longest subject (OpenID Connect Core 1.0, 2).
const MAX_SUBJECT: usize = 255;

/// A checked ID token.
#[derive(Clone)]
pub struct IdToken {
    /// As it was sent; a hint for sign-out.
    pub raw: String,
    /// Everything it says.
    pub claims: Map<String, Value>,
    /// Who made it.
    pub issuer: String,
    /// Who it is about.
    pub subject: String,
    /// When it was made.
    pub issued_at: Option<Timestamp>,
    /// Until when it holds.
    pub expires_at: Option<Timestamp>,
}

/// What only this sign-in or session knows.
pub(super) struct Expected<'a> {
    pub(super) nonce: Option<&'a str>,
    pub(super) subject: Option<&'a str>,
}

impl OidcProvider {
    /// Checks algorithm, signature, issuer, audience, times, authorized party, nonce and subject.
    pub(super) async fn verify_id_token(
        &self,
        metadata: &Metadata,
        raw: &str,
        expected: &Expected<'_>,
    ) -> Result<IdToken, IdentityError> {
        let algorithms = metadata.id_token_algorithms();
        let expect = Expect {
            issuer: Some(&self.config.issuer),
            audience: Some(&self.config.client_id),
            algorithms: &algorithms,
            now: self.now().as_second(),
            leeway: LEEWAY,
        };
        let claims: Map<String, Value> = self
            .keys
            .verify(&metadata.jwks_uri, |keys| keys.verify(raw, &expect))
            .await?;
        self.check_party(&claims)?;
        check_nonce(&claims, expected.nonce)?;
        let subject = claims::text(&claims, "sub")
            .filter(|subject| subject.len() <= MAX_SUBJECT)
            .ok_or(IdentityError::IdToken(JwtError::Claim("sub")))?
            .to_owned();
        check_subject("refreshed ID token", expected.subject, &subject)?;
        Ok(IdToken {
            raw: raw.to_owned(),
            issuer: self.config.issuer.clone(),
            subject,
            issued_at: time(&claims, "iat"),
            expires_at: time(&claims, "exp"),
            claims,
        })
    }

    /// A token for several clients must name us as the one it was made for.
    fn check_party(&self, claims: &Map<String, Value>) -> Result<(), IdentityError> {
        let several = claims
            .get("aud")
            .and_then(Value::as_array)
            .is_some_and(|aud| aud.len() > 1);
        let azp = claims.get("azp");
        if azp.is_none() && !several || azp.and_then(Value::as_str) == Some(&self.config.client_id) {
            return Ok(());
        }
        let azp = fetch::clean(azp.and_then(Value::as_str).unwrap_or_default());
        Err(IdentityError::AuthorizedParty {
            azp,
            client_id: self.config.client_id.clone(),
        })
    }
}

fn check_nonce(claims: &Map<String, Value>, expected: Option<&str>) -> Result<(), IdentityError> {
    let Some(expected) = expected else { return Ok(()) };
    let found = claims::text(claims, "nonce").ok_or(IdentityError::Nonce)?;
    if ct::eq(found.as_bytes(), expected.as_bytes()) {
        Ok(())
    } else {
        Err(IdentityError::Nonce)
    }
}

pub(super) fn check_subject(
    what: &'static str,
    expected: Option<&str>,
    found: &str,
) -> Result<(), IdentityError> {
    match expected {
        Some(expected) if expected != found => Err(IdentityError::Subject {
            what,
            expected: expected.to_owned(),
            found: fetch::clean(found),
        }),
        _ => Ok(()),
    }
}

/// A time claim: seconds, possibly with a fraction.
pub(super) fn time(claims: &Map<String, Value>, name: &str) -> Option<Timestamp> {
    let seconds = claims.get(name)?.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fractions are cut; out of range is refused below"
    )]
    Timestamp::from_second(seconds as i64).ok()
}
