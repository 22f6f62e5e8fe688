//! Where browsers are sent: to sign in, to sign out.

use pomerium_crypto::query::Query;

use super::OidcProvider;
use crate::{IdentityError, Pkce};

/// Parameters that belong to the protocol; the configuration cannot set them.
const RESERVED: [&str; 10] = [
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_type",
    "scope",
    "state",
];

/// What is particular to one sign-in.
#[derive(Debug, Clone, Copy)]
pub struct AuthRequest<'a> {
    /// Comes back unchanged.
    pub state: &'a str,
    /// Comes back inside the ID token.
    pub nonce: &'a str,
    /// The proof key; see [`super::Metadata::pkce`] for when to use one.
    pub pkce: Option<&'a Pkce>,
    /// What the sign-in has to be, where it cannot be just any.
    pub step_up: Option<StepUp<'a>>,
}

/// What a sign-in has to be (OpenID Connect Core 1.0, 3.1.2.1; RFC 9470).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepUp<'a> {
    /// Seconds since the person proved who they are.
    pub max_age: Option<u64>,
    /// Authentication context classes, any of them.
    pub acr: &'a [String],
    /// Whether the person is to prove it now, whatever session the provider has.
    pub login: bool,
}

impl StepUp<'_> {
    fn set(&self, query: &mut Query) {
        if let Some(max_age) = self.max_age {
            query.set("max_age", max_age.to_string());
        }
        if !self.acr.is_empty() {
            query.set("acr_values", self.acr.join(" "));
        }
        if self.login {
            query.set("prompt", "login");
        }
    }
}

impl OidcProvider {
    /// Whether a sign-in should use a proof key.
    pub async fn uses_pkce(&self) -> Result<bool, IdentityError> {
        Ok(self.metadata().await?.pkce())
    }

    /// Where to send the browser to sign in.
    pub async fn authorization_url(&self, request: AuthRequest<'_>) -> Result<String, IdentityError> {
        let metadata = self.metadata().await?;
        let (base, mut query) = split(&metadata.authorization_endpoint);
        for (name, value) in &self.config.request_params {
            if !RESERVED.contains(&name.as_str()) {
                query.set(name, value);
            }
        }
        query.set("response_type", "code");
        query.set("client_id", &self.config.client_id);
        query.set("redirect_uri", &self.config.redirect_uri);
        query.set("scope", self.config.scopes.join(" "));
        query.set("state", request.state);
        query.set("nonce", request.nonce);
        if let Some(step_up) = request.step_up {
            step_up.set(&mut query);
        }
        if let Some(pkce) = request.pkce {
            query.set("code_challenge", pkce.challenge());
            query.set("code_challenge_method", "S256");
        }
        Ok(format!("{base}?{}", query.encode()))
    }

    /// Checks the `iss` parameter of a callback (RFC 9207): must be this provider where it is given, and must
    /// be given where the provider says that it always is.
    pub async fn check_callback_issuer(&self, iss: Option<&str>) -> Result<(), IdentityError> {
        let expected = &self.config.issuer;
        let right = match iss {
            Some(iss) => iss == expected,
            None => {
                !self
                    .metadata()
                    .await?
                    .authorization_response_iss_parameter_supported
            }
        };
        let mix_up = || IdentityError::MixUp {
            expected: expected.clone(),
            found: super::fetch::clean(iss.unwrap_or_default()),
        };
        if right { Ok(()) } else { Err(mix_up()) }
    }

    /// Where to send the browser to sign out at the provider; `None` when it offers no such thing.
    pub async fn end_session_url(
        &self,
        id_token_hint: Option<&str>,
        post_logout: &str,
    ) -> Result<Option<String>, IdentityError> {
        let metadata = self.metadata().await?;
        let Some(endpoint) = metadata.end_session_endpoint.as_deref() else {
            return Ok(None);
        };
        let (base, mut query) = split(endpoint);
        if let Some(hint) = id_token_hint.filter(|hint| !hint.is_empty()) {
            query.set("id_token_hint", hint);
        }
        query.set("client_id", &self.config.client_id);
        query.set("post_logout_redirect_uri", post_logout);
        Ok(Some(format!("{base}?{}", query.encode())))
    }
}

/// An endpoint and the query it may already have; a fragment goes.
fn split(endpoint: &str) -> (&str, Query) {
    let endpoint = endpoint.split('#').next().unwrap_or_default();
    match endpoint.split_once('?') {
        Some((base, query)) => (base, Query::parse(query)),
        None => (endpoint, Query::new()),
    }
}
