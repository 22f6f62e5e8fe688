//! Discovery document and public keys (OpenID Connect Discovery 3).

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::provider::{LocalProvider, json as reply};
use super::request::ACR;

/// What the provider can do, and where.
pub(crate) fn document(provider: &LocalProvider) -> Response<Bytes> {
    let at = |path: &str| format!("{}{path}", provider.base);
    let document = json!({
        "issuer": provider.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "userinfo_endpoint": at("/userinfo"),
        "jwks_uri": at("/jwks.json"),
        "end_session_endpoint": at("/end_session"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
        "claims_supported": ["sub", "email", "email_verified", "name", "preferred_username", "groups",
            "auth_time", "acr", "amr"],
        "acr_values_supported": [ACR],
        "authorization_response_iss_parameter_supported": true,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    reply(StatusCode::OK, &document)
}

/// The public half of the signing key.
pub(crate) fn keys(provider: &LocalProvider) -> Response<Bytes> {
    reply(StatusCode::OK, &provider.key.jwks())
}
