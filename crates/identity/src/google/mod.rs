//! Identity tokens of Google for upstreams that ask for one, such as Cloud Run (spec policy.md 11.5).
//!
//! [`GoogleTokens`] gets one token, from the key of a service account or from the metadata server of the machine.
//! [`KeptToken`] keeps one fresh, so that no request waits for Google but the very first.

mod kept;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::Timestamp;
use pomerium_api::clock::Clock;
use pomerium_crypto::encoding::base64url_decode;
use pomerium_crypto::jwt::SigningKey;
use pomerium_crypto::query::Query;
use serde::Deserialize;
use serde_json::json;

pub use self::kept::KeptToken;
use crate::{HttpClient, HttpError};

/// Where virtual machines at Google find the metadata server.
pub const METADATA_HOST: &str = "metadata.google.internal";
/// Longest answer that is read, bytes.
const LONGEST: usize = 64 * 1024;
/// How long the signed request of a service account holds, seconds.
const GRANT_LIFE: i64 = 3600;
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const FLAVOR: &str = "metadata-flavor";

/// Who vouches for this proxy.
pub enum GoogleSource {
    /// A service account with a key of its own.
    Account {
        /// Its e-mail.
        email: String,
        /// Name of the key at Google; may be empty.
        key_id: String,
        /// The key.
        key: Box<SigningKey>,
        /// Where the signed request is traded for a token.
        token_uri: String,
    },
    /// The metadata server at this `host[:port]`.
    Metadata(String),
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum GoogleError {
    /// No answer.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// An answer that is no token.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// Something else answered, or the token is not what was asked for.
    #[error("{0}")]
    Unusable(&'static str),
}

/// One token.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityToken {
    /// The token; a credential.
    pub raw: String,
    /// Until when it holds.
    pub expires_at: Timestamp,
}

/// Gets tokens.
pub struct GoogleTokens {
    source: GoogleSource,
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
}

impl GoogleTokens {
    /// Asks over `http`.
    pub fn new(source: GoogleSource, http: Arc<dyn HttpClient>, clock: Arc<dyn Clock>) -> Self {
        Self { source, http, clock }
    }

    /// A new token for `audience`.
    pub async fn fetch(&self, audience: &str) -> Result<IdentityToken, GoogleError> {
        let request = match &self.source {
            GoogleSource::Account { .. } => self.grant(audience)?,
            GoogleSource::Metadata(host) => metadata(host, audience)?,
        };
        let answer = self.http.send(request, LONGEST).await?;
        if answer.status() != StatusCode::OK {
            return Err(GoogleError::Status(answer.status()));
        }
        let raw = match &self.source {
            GoogleSource::Account { .. } => traded(answer.body())?,
            GoogleSource::Metadata(_) => {
                let google = answer.headers().get(FLAVOR).map(|flavor| flavor.as_bytes());
                if google != Some(b"Google") {
                    return Err(GoogleError::Unusable("what answered is no metadata server"));
                }
                std::str::from_utf8(answer.body())
                    .map_err(|_| GoogleError::Unusable("its answer is no text"))?
                    .trim()
                    .to_owned()
            }
        };
        self.check(raw, audience)
    }

    /// The request of a service account: what it wants, signed.
    fn grant(&self, audience: &str) -> Result<Request<Bytes>, GoogleError> {
        let GoogleSource::Account {
            email,
            key_id,
            key,
            token_uri,
        } = &self.source
        else {
            return Err(GoogleError::Unusable("there is no service account"));
        };
        let now = self.clock.now().as_second();
        let claims = json!({
            "iss": email, "sub": email, "aud": token_uri, "target_audience": audience,
            "iat": now, "exp": now + GRANT_LIFE,
        });
        let signed = key
            .sign_as(key_id, &claims)
            .map_err(|_| GoogleError::Unusable("the key of the service account cannot sign"))?;
        let mut form = Query::new();
        form.set("grant_type", GRANT).set("assertion", signed);
        Request::post(token_uri)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form.encode()))
            .map_err(|_| GoogleError::Unusable("the token address cannot be asked"))
    }

    /// A token must be one, for this audience, and still good. Its signature is for the upstream to check.
    fn check(&self, raw: String, audience: &str) -> Result<IdentityToken, GoogleError> {
        #[derive(Deserialize)]
        struct Claims {
            aud: String,
            exp: i64,
        }
        let unusable = || GoogleError::Unusable("its answer is no identity token");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
        let mut parts = raw.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(unusable());
        };
        if !raw.chars().all(plain) {
            return Err(unusable());
        }
        let payload = base64url_decode(payload.trim_end_matches('=')).map_err(|_| unusable())?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| unusable())?;
        if claims.aud != audience {
            return Err(GoogleError::Unusable("the token is for another audience"));
        }
        let expires_at = Timestamp::from_second(claims.exp).map_err(|_| unusable())?;
        if expires_at <= self.clock.now() {
            return Err(GoogleError::Unusable(
                "the token is over already: is the clock of this machine right?",
            ));
        }
        Ok(IdentityToken { raw, expires_at })
    }
}

impl std::fmt::Debug for GoogleTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GoogleTokens").finish_non_exhaustive()
    }
}

/// The request to the metadata server.
fn metadata(host: &str, audience: &str) -> Result<Request<Bytes>, GoogleError> {
    let mut query = Query::new();
    query.set("audience", audience).set("format", "full");
    let url = format!(
        "http://{host}/computeMetadata/v1/instance/service-accounts/default/identity?{}",
        query.encode()
    );
    Request::get(url)
        .header(FLAVOR, "Google")
        .body(Bytes::new())
        .map_err(|_| GoogleError::Unusable("the metadata server cannot be asked at its address"))
}

fn traded(body: &[u8]) -> Result<String, GoogleError> {
    #[derive(Deserialize)]
    struct Answer {
        id_token: String,
    }
    serde_json::from_slice::<Answer>(body)
        .map(|answer| answer.id_token)
        .map_err(|_| GoogleError::Unusable("its answer has no id_token"))
}
