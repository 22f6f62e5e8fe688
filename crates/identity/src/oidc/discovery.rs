//! The discovery document (OpenID Connect Discovery 1.0, section 4).

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_crypto::jwt::Algorithm;
use serde::Deserialize;

use super::fetch;
use crate::{HttpClient, IdentityError};

/// What a provider says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    /// Its name; equals the configured issuer.
    pub issuer: String,
    /// Where browsers are sent to sign in.
    pub authorization_endpoint: String,
    /// Where codes and refresh tokens are traded.
    pub token_endpoint: String,
    /// Where its public keys are.
    pub jwks_uri: String,
    /// Who an access token stands for.
    pub userinfo_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// Where browsers are sent to sign out (OpenID Connect RP-Initiated Logout 1.0).
    pub end_session_endpoint: Option<String>,
    /// PKCE methods; `None` when it does not say.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// How clients may authenticate at the token endpoint.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Algorithms of ID tokens.
    pub id_token_signing_alg_values_supported: Option<Vec<String>>,
    /// Algorithms of signed user info.
    pub userinfo_signing_alg_values_supported: Option<Vec<String>>,
    /// Whether answers to authorization requests carry `iss` (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    /// Whether to send a PKCE challenge: unless the provider lists its methods and S256 is not one of them.
    pub fn pkce(&self) -> bool {
        let methods = self.code_challenge_methods_supported.as_ref();
        methods.is_none_or(|methods| methods.iter().any(|method| method == "S256"))
    }

    /// Algorithms accepted for ID tokens; RS256 when it names none that is any good. Never `none` or HMAC.
    pub fn id_token_algorithms(&self) -> Vec<Algorithm> {
        algorithms(self.id_token_signing_alg_values_supported.as_deref())
    }

    /// The same for signed user info.
    pub fn userinfo_algorithms(&self) -> Vec<Algorithm> {
        match &self.userinfo_signing_alg_values_supported {
            Some(names) => algorithms(Some(names)),
            None => self.id_token_algorithms(),
        }
    }
}

fn algorithms(names: Option<&[String]>) -> Vec<Algorithm> {
    let known: Vec<_> = names
        .into_iter()
        .flatten()
        .filter_map(|name| Algorithm::from_name(name))
        .collect();
    if known.is_empty() {
        vec![Algorithm::Rs256]
    } else {
        known
    }
}

/// Reads the document of `issuer`, and makes sure that it is its own.
pub(super) fn discover(
    http: Arc<dyn HttpClient>,
    issuer: String,
) -> BoxFuture<'static, Result<Arc<Metadata>, IdentityError>> {
    async move {
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.strip_suffix('/').unwrap_or(&issuer)
        );
        let document = fetch::get_document(&*http, &url).await?;
        let metadata: Metadata =
            serde_json::from_slice(&document).map_err(|error| fetch::bad_answer(&url, error))?;
        if metadata.issuer != issuer {
            return Err(IdentityError::WrongIssuer {
                configured: issuer,
                found: fetch::clean(&metadata.issuer),
            });
        }
        check_endpoints(&url, &metadata)?;
        Ok(Arc::new(metadata))
    }
    .boxed()
}

/// Endpoints must be web addresses. Plain HTTP below an HTTPS issuer is let through for the sake of
/// providers with internal addresses, but not quietly.
fn check_endpoints(document: &str, metadata: &Metadata) -> Result<(), IdentityError> {
    let optional = [
        &metadata.userinfo_endpoint,
        &metadata.revocation_endpoint,
        &metadata.end_session_endpoint,
    ];
    let required = [
        &metadata.authorization_endpoint,
        &metadata.token_endpoint,
        &metadata.jwks_uri,
    ];
    for url in required.into_iter().chain(optional.into_iter().flatten()) {
        let uri: http::Uri = url.parse().map_err(|_| unusable(document, url))?;
        match uri.scheme_str() {
            Some("https") if uri.host().is_some() => {}
            Some("http") if uri.host().is_some() => {
                if metadata.issuer.starts_with("https:") {
                    tracing::warn!(url, "the identity provider names an endpoint without TLS");
                }
            }
            _ => return Err(unusable(document, url)),
        }
    }
    Ok(())
}

fn unusable(document: &str, url: &str) -> IdentityError {
    fetch::bad_answer(
        document,
        format_args!("\"{}\" is not a web address", fetch::clean(url)),
    )
}
