//! The token and revocation endpoints: codes, refresh tokens, and how we prove who we are there.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use jiff::Timestamp;
use pomerium_crypto::encoding;
use pomerium_crypto::query::{self, Query};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Metadata, OidcProvider, fetch};
use crate::IdentityError;

/// Longest life believed of an access token.
const MAX_LIFE: u64 = 10 * 365 * 24 * 3600;

/// Tokens to act for someone at the provider. They never leave the control plane.
#[derive(Clone, Default)]
pub struct Tokens {
    /// For user info.
    pub access_token: String,
    /// `Bearer`, as a rule.
    pub token_type: String,
    /// For new tokens, if the provider gave one.
    pub refresh_token: Option<String>,
    /// When the access token ends, if the provider said so.
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A good answer of the token endpoint.
pub(super) struct TokenAnswer {
    pub(super) tokens: Tokens,
    pub(super) id_token: Option<String>,
}

#[derive(Deserialize)]
struct RawAnswer {
    access_token: String,
    token_type: Option<String>,
    refresh_token: Option<String>,
    id_token: Option<String>,
    /// A number; some send a text.
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
struct RawError {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// The way of authenticating that worked last.
#[derive(Default)]
pub(super) struct ClientAuth(AtomicU8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`; without a secret, `none`.
    Post,
}

impl ClientAuth {
    /// The ways to try, in order: the one that worked; else basic, then post, as far as they are offered.
    fn ways(&self, metadata: &Metadata, has_secret: bool) -> Vec<Way> {
        if !has_secret {
            return vec![Way::Post];
        }
        match self.0.load(Ordering::Relaxed) {
            1 => return vec![Way::Basic],
            2 => return vec![Way::Post],
            _ => {}
        }
        let offered = metadata
            .token_endpoint_auth_methods_supported
            .as_deref()
            .unwrap_or_default();
        let offers = |name| offered.iter().any(|method| method == name);
        match (offers("client_secret_basic"), offers("client_secret_post")) {
            (true, false) => vec![Way::Basic],
            (false, true) => vec![Way::Post],
            _ => vec![Way::Basic, Way::Post],
        }
    }

    fn worked(&self, way: Way) {
        self.0
            .store(if way == Way::Basic { 1 } else { 2 }, Ordering::Relaxed);
    }
}

impl OidcProvider {
    pub(super) async fn request_code(
        &self,
        metadata: &Metadata,
        code: &str,
        pkce_verifier: Option<&str>,
    ) -> Result<TokenAnswer, IdentityError> {
        let mut form = Query::new();
        form.set("grant_type", "authorization_code");
        form.set("code", code);
        form.set("redirect_uri", &self.config.redirect_uri);
        if let Some(verifier) = pkce_verifier {
            form.set("code_verifier", verifier);
        }
        let answer = self
            .post_form(metadata, &metadata.token_endpoint, &form, "code")
            .await?;
        self.read_tokens(metadata, &answer)
    }

    /// The old refresh token stays, unless the provider sends another.
    pub(super) async fn request_refresh(
        &self,
        metadata: &Metadata,
        refresh_token: &str,
    ) -> Result<TokenAnswer, IdentityError> {
        let mut form = Query::new();
        form.set("grant_type", "refresh_token");
        form.set("refresh_token", refresh_token);
        let answer = self
            .post_form(metadata, &metadata.token_endpoint, &form, "refresh token")
            .await?;
        let mut answer = self.read_tokens(metadata, &answer)?;
        answer
            .tokens
            .refresh_token
            .get_or_insert_with(|| refresh_token.to_owned());
        Ok(answer)
    }

    /// Makes the provider forget the tokens (RFC 7009): the refresh token, if there is one, then the access
    /// token. Errors with [`IdentityError::NotOffered`] when the provider has no such endpoint.
    pub async fn revoke(&self, tokens: &Tokens) -> Result<(), IdentityError> {
        let metadata = self.metadata().await?;
        let endpoint = metadata.revocation_endpoint.as_deref();
        let endpoint = endpoint.ok_or(IdentityError::NotOffered("revocation endpoint"))?;
        let refresh = tokens
            .refresh_token
            .as_deref()
            .map(|token| (token, "refresh_token"));
        for (token, hint) in refresh
            .into_iter()
            .chain([(tokens.access_token.as_str(), "access_token")])
        {
            let mut form = Query::new();
            form.set("token", token);
            form.set("token_type_hint", hint);
            self.post_form(&metadata, endpoint, &form, "revocation").await?;
        }
        Ok(())
    }

    /// Posts a form as the client; tries the other way of authenticating when the first is not accepted.
    async fn post_form(
        &self,
        metadata: &Metadata,
        url: &str,
        form: &Query,
        what: &'static str,
    ) -> Result<Bytes, IdentityError> {
        let mut refusal = None;
        for way in self.client_auth.ways(metadata, !self.secret.is_empty()) {
            let answer = fetch::send(&*self.http, self.form_request(url, form.clone(), way)?).await?;
            if answer.status() == StatusCode::OK {
                self.client_auth.worked(way);
                return Ok(answer.into_body());
            }
            let error = refused(url, &answer, what);
            if !is_client_refused(&error) {
                return Err(error);
            }
            refusal.get_or_insert(error);
        }
        Err(refusal.unwrap_or(IdentityError::NotOffered("way for this client to authenticate")))
    }

    fn form_request(&self, url: &str, mut form: Query, way: Way) -> Result<Request<Bytes>, IdentityError> {
        let mut request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        let secret = Zeroizing::new(String::from_utf8_lossy(&self.secret).into_owned());
        match way {
            Way::Basic => {
                // RFC 6749, 2.3.1: both are form-encoded first.
                let pair = format!(
                    "{}:{}",
                    query::escape(&self.config.client_id),
                    query::escape(&secret)
                );
                let pair = Zeroizing::new(pair);
                let value = format!("Basic {}", encoding::base64_encode(pair.as_bytes()));
                request = request.header(header::AUTHORIZATION, value);
            }
            Way::Post => {
                form.set("client_id", &self.config.client_id);
                if !secret.is_empty() {
                    form.set("client_secret", &*secret);
                }
            }
        }
        request
            .body(form.encode().into())
            .map_err(|error| fetch::bad_answer(url, error))
    }

    fn read_tokens(&self, metadata: &Metadata, body: &[u8]) -> Result<TokenAnswer, IdentityError> {
        let bad = |detail: &dyn std::fmt::Display| fetch::bad_answer(&metadata.token_endpoint, detail);
        // serde names the place of an error, never the value.
        let raw: RawAnswer = serde_json::from_slice(body).map_err(|error| bad(&error))?;
        if raw.access_token.is_empty() {
            return Err(bad(&"the access token is empty"));
        }
        let token_type = raw
            .token_type
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "Bearer".into());
        if !token_type.eq_ignore_ascii_case("bearer") {
            return Err(bad(&format_args!(
                "its tokens are of type \"{}\"",
                fetch::clean(&token_type)
            )));
        }
        let life = raw.expires_in.as_ref().and_then(seconds).filter(|life| *life > 0);
        let expires_at = life.and_then(|life| {
            self.now()
                .checked_add(Duration::from_secs(life.min(MAX_LIFE)))
                .ok()
        });
        let tokens = Tokens {
            access_token: raw.access_token,
            token_type,
            refresh_token: raw.refresh_token.filter(|token| !token.is_empty()),
            expires_at,
        };
        Ok(TokenAnswer {
            tokens,
            id_token: raw.id_token.filter(|token| !token.is_empty()),
        })
    }
}

fn seconds(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn refused(url: &str, answer: &Response<Bytes>, what: &'static str) -> IdentityError {
    if answer.status().is_redirection() || answer.status().is_success() {
        return fetch::bad_answer(url, format_args!("status {}", answer.status()));
    }
    let raw: RawError = serde_json::from_slice(answer.body()).unwrap_or_default();
    IdentityError::Refused {
        what,
        status: answer.status().as_u16(),
        error: fetch::clean(&raw.error),
        description: fetch::clean(&raw.error_description),
    }
}

/// Whether it is us who were not accepted, rather than the code or token.
fn is_client_refused(error: &IdentityError) -> bool {
    match error {
        IdentityError::Refused { status: 401, .. } => true,
        IdentityError::Refused { error, .. } => error == "invalid_client",
        _ => false,
    }
}
