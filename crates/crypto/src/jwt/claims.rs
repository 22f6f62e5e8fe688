//! The registered claims (RFC 7519, 4.1) of tokens made by others.

use serde::Deserialize;

use super::{Algorithm, JwtError};

/// What a token has to say to be accepted.
#[derive(Debug, Clone, Copy)]
pub struct Expect<'a> {
    /// `iss` has to be exactly this. `None`: the caller checks it (issuers with a tenant inside).
    pub issuer: Option<&'a str>,
    /// `aud` has to be or to contain this. `None`: the caller checks it.
    pub audience: Option<&'a str>,
    /// Accepted algorithms; an empty list accepts nothing.
    pub algorithms: &'a [Algorithm],
    /// The time now, in unix seconds.
    pub now: i64,
    /// How far the other clock may be off, in seconds.
    pub leeway: i64,
}

/// Read apart from the caller's own claims: naming one of these twice is an error here.
#[derive(Deserialize)]
pub(super) struct Registered {
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

impl Registered {
    /// Issuer and audience come before the times, so that a stranger's token does not look like a clock
    /// problem. `exp` is required.
    pub fn check(&self, expect: &Expect<'_>) -> Result<(), JwtError> {
        if expect.issuer.is_some() && expect.issuer != self.iss.as_deref() {
            return Err(JwtError::Issuer);
        }
        if let Some(wanted) = expect.audience
            && !self.aud.as_ref().is_some_and(|aud| aud.contains(wanted))
        {
            return Err(JwtError::Audience);
        }
        let exp = self.exp.ok_or(JwtError::Claim("exp"))?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "unix seconds stay exact for 200 million years"
        )]
        let (now, leeway) = (expect.now as f64, expect.leeway as f64);
        if now - leeway >= exp {
            return Err(JwtError::Expired);
        }
        if [self.nbf, self.iat]
            .into_iter()
            .flatten()
            .any(|from| now + leeway < from)
        {
            return Err(JwtError::NotYetValid);
        }
        Ok(())
    }
}
