//! What the token endpoint hands out: an ES256 ID token, and an access token that only we can read.

use pomerium_crypto::jwt::SigningKey;
use serde::{Deserialize, Serialize};

use super::codes::Grant;
use super::request::ACR;
use super::users::User;

/// Claims of the ID token (OpenID Connect Core 2).
#[derive(Debug, Clone, Serialize)]
pub struct IdClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: i64,
    iat: i64,
    auth_time: i64,
    acr: &'static str,
    amr: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(flatten)]
    profile: Profile<'a>,
}

/// What is known about a person; the clients are our own, so that scopes do not thin it out.
#[derive(Debug, Clone, Serialize)]
pub struct Profile<'a> {
    email: &'a str,
    email_verified: bool,
    name: &'a str,
    preferred_username: &'a str,
    groups: &'a [String],
}

impl<'a> Profile<'a> {
    /// The profile of `user`. The administrator wrote the address down, that is why it counts as verified.
    pub fn of(user: &'a User) -> Self {
        Self {
            email: &user.email,
            email_verified: true,
            name: &user.name,
            preferred_username: &user.email,
            groups: &user.groups,
        }
    }
}

/// Claims that are read back from an `id_token_hint`; its age does not matter.
#[derive(Debug, Deserialize)]
pub struct Hint {
    /// Issuer.
    pub iss: String,
    /// Client the token was for.
    pub aud: String,
    /// User id.
    pub sub: String,
}

/// Content of the access token, sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Access {
    /// [`Grant::id`].
    pub grant: String,
    /// E-mail, lower case.
    pub email: String,
    /// [`User::fingerprint`].
    pub fingerprint: String,
    /// Unix seconds.
    pub expires: i64,
}

/// Makes the ID token. `None` when the key refuses, which it has no reason to.
pub fn id_token(
    key: &SigningKey,
    issuer: &str,
    user: &User,
    grant: &Grant,
    (now, lifetime): (i64, i64),
) -> Option<String> {
    let claims = IdClaims {
        iss: issuer,
        sub: &user.subject,
        aud: &grant.client_id,
        exp: now + lifetime,
        iat: now,
        auth_time: grant.auth_time,
        acr: ACR,
        amr: ["pwd"],
        nonce: grant.nonce.as_deref(),
        profile: Profile::of(user),
    };
    key.sign(&claims)
        .inspect_err(|error| tracing::error!(%error, "cannot sign an ID token"))
        .ok()
}
