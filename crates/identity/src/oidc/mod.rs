//! One OpenID Connect provider: discovery, sign-in, refresh, user info, sign-out (OpenID Connect Core 1.0).

mod discovery;
mod fetch;
mod id_token;
mod keys;
#[cfg(test)]
mod tests;
mod token_endpoint;
mod urls;
mod userinfo;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use pomerium_api::clock::Clock;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub use self::discovery::Metadata;
pub use self::id_token::IdToken;
use self::token_endpoint::ClientAuth;
pub use self::token_endpoint::Tokens;
pub use self::urls::{AuthRequest, StepUp};
pub use self::userinfo::UserInfo;
use self::{id_token::Expected, keys::Keys};
use crate::claims;
use crate::flight::Flight;
use crate::{HttpClient, IdentityError};

/// How a provider is set up.
#[derive(Clone)]
pub struct OidcConfig {
    /// Names this configuration in sessions.
    pub id: String,
    /// The issuer, exactly as the provider spells it.
    pub issuer: String,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret; empty for a public client.
    pub client_secret: Vec<u8>,
    /// Scopes to ask for; `openid` has to be among them.
    pub scopes: Vec<String>,
    /// More parameters of the authorization request. Those of the protocol itself cannot be set.
    pub request_params: Vec<(String, String)>,
    /// Where the provider sends the browser back to.
    pub redirect_uri: String,
}

impl std::fmt::Debug for OidcConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcConfig")
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// What a sign-in says about someone, checked.
#[derive(Clone)]
pub struct Identity {
    /// Claims of the ID token, overlaid by user info, tidied.
    pub claims: Map<String, Value>,
    /// The ID token.
    pub id_token: IdToken,
    /// The tokens to go on with.
    pub tokens: Tokens,
}

impl Identity {
    /// The user id: the subject, replaced by the object id where there is one (Entra).
    pub fn user_id(&self) -> &str {
        claims::text(&self.claims, "oid").unwrap_or(&self.id_token.subject)
    }
}

/// What a refresh gave.
#[derive(Clone)]
pub struct Refreshed {
    /// The new tokens; the old refresh token, if the provider sent no other.
    pub tokens: Tokens,
    /// The new ID token, if there was one that could be believed.
    pub id_token: Option<IdToken>,
}

/// One provider. Does nothing before it is asked something; then reads the discovery document once.
pub struct OidcProvider {
    config: OidcConfig,
    secret: Zeroizing<Vec<u8>>,
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    metadata: ArcSwapOption<Metadata>,
    discovery: Flight<Arc<Metadata>>,
    keys: Keys,
    client_auth: ClientAuth,
}

impl OidcProvider {
    /// A provider that asks over `http` and judges times by `clock`.
    pub fn new(mut config: OidcConfig, http: Arc<dyn HttpClient>, clock: Arc<dyn Clock>) -> Self {
        let secret = Zeroizing::new(std::mem::take(&mut config.client_secret));
        Self {
            config,
            secret,
            keys: Keys::new(http.clone(), clock.clone()),
            http,
            clock,
            metadata: ArcSwapOption::empty(),
            discovery: Flight::new(),
            client_auth: ClientAuth::default(),
        }
    }

    /// The id of this configuration.
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// The discovery document: fetched at first use, tried again until it works, then kept.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, IdentityError> {
        if let Some(metadata) = self.metadata.load_full() {
            return Ok(metadata);
        }
        let metadata = self
            .discovery
            .join(|| discovery::discover(self.http.clone(), self.config.issuer.clone()))
            .await?;
        self.metadata.store(Some(metadata.clone()));
        Ok(metadata)
    }

    /// Trades the code of a callback for an identity. `nonce` and `pkce_verifier` are those the sign-in was
    /// started with.
    pub async fn exchange(
        &self,
        code: &str,
        pkce_verifier: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<Identity, IdentityError> {
        let metadata = self.metadata().await?;
        let answer = self.request_code(&metadata, code, pkce_verifier).await?;
        let raw = answer.id_token.as_deref().ok_or(IdentityError::NoIdToken)?;
        let expected = Expected { nonce, subject: None };
        let id_token = self.verify_id_token(&metadata, raw, &expected).await?;
        let userinfo = self
            .fetch_userinfo(&metadata, &answer.tokens.access_token, &id_token.subject)
            .await?;
        let claims = self.join_claims(&id_token.claims, userinfo.as_ref());
        Ok(Identity {
            claims,
            id_token,
            tokens: answer.tokens,
        })
    }

    /// Trades a refresh token for new tokens. `subject` is that of the first ID token: a refreshed one
    /// must be about the same person. One that cannot be believed otherwise is left out.
    pub async fn refresh(&self, refresh_token: &str, subject: &str) -> Result<Refreshed, IdentityError> {
        if refresh_token.is_empty() {
            return Err(IdentityError::NoRefreshToken);
        }
        let metadata = self.metadata().await?;
        let answer = self.request_refresh(&metadata, refresh_token).await?;
        let Some(raw) = answer.id_token.as_deref() else {
            return Ok(Refreshed {
                tokens: answer.tokens,
                id_token: None,
            });
        };
        let expected = Expected {
            nonce: None,
            subject: Some(subject),
        };
        let id_token = match self.verify_id_token(&metadata, raw, &expected).await {
            Ok(id_token) => Some(id_token),
            Err(error @ IdentityError::Subject { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(idp_id = self.config.id, %error, "a refreshed ID token is left out");
                None
            }
        };
        Ok(Refreshed {
            tokens: answer.tokens,
            id_token,
        })
    }

    /// Asks who the access token stands for; it must be `subject`. `None` when the provider has no such
    /// endpoint.
    pub async fn userinfo(
        &self,
        access_token: &str,
        subject: &str,
    ) -> Result<Option<UserInfo>, IdentityError> {
        let metadata = self.metadata().await?;
        self.fetch_userinfo(&metadata, access_token, subject).await
    }

    /// The claims of an ID token and user info as one set.
    pub fn join_claims(
        &self,
        id_token: &Map<String, Value>,
        userinfo: Option<&UserInfo>,
    ) -> Map<String, Value> {
        let mut joined = match userinfo {
            Some(userinfo) => claims::overlay(id_token, &userinfo.claims),
            None => id_token.clone(),
        };
        claims::tidy(&mut joined);
        joined
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl std::fmt::Debug for OidcProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcProvider")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
