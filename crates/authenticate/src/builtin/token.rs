//! Token endpoint: a code for an ID token and an access token (RFC 6749 4.1.3).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use pomerium_api::databroker::Databroker;
use serde_json::json;

use super::codes::Redemption;
use super::provider::{BackCall, LocalProvider, json as reply};
use super::tokens::{self, Access};

/// The databroker cannot be asked.
const UNAVAILABLE: &str = "temporarily_unavailable";

/// Answers a token request.
pub(crate) async fn answer(
    provider: &LocalProvider,
    broker: &dyn Databroker,
    call: BackCall<'_>,
) -> Response<Bytes> {
    match redeem(provider, broker, call).await {
        Ok(response) => response,
        Err(error) => refusal(error),
    }
}

async fn redeem(
    provider: &LocalProvider,
    broker: &dyn Databroker,
    call: BackCall<'_>,
) -> Result<Response<Bytes>, &'static str> {
    let form = LocalProvider::form(call);
    let once = [
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "client_id",
        "client_secret",
    ];
    if form.is_malformed() || once.iter().any(|name| form.count(name) > 1) {
        return Err("invalid_request");
    }
    let client = provider
        .clients
        .authenticate(call.headers, &form)
        .ok_or("invalid_client")?;
    if form.get("grant_type") != Some("authorization_code") {
        return Err("unsupported_grant_type");
    }
    let shown = Redemption {
        client_id: &client.id,
        redirect_uri: form.get("redirect_uri").unwrap_or_default(),
        code_verifier: form.get("code_verifier").unwrap_or_default(),
    };
    let code = form.get("code").unwrap_or_default();
    let grant = provider
        .state
        .codes
        .redeem(broker, (&provider.codes, code), shown, call.now)
        .await
        .map_err(|error| {
            tracing::warn!(%error, "whether an authorization code was used cannot be asked");
            UNAVAILABLE
        })?
        .ok_or("invalid_grant")?;
    // The user may have been removed in the minute since, or have a new password.
    let user = provider
        .users
        .find(&grant.email)
        .filter(|user| user.has_fingerprint(&grant.fingerprint));
    let user = user.ok_or("invalid_grant")?;
    let life = (call.now, provider.lifetime);
    let id_token =
        tokens::id_token(&provider.key, &provider.issuer, &user, &grant, life).ok_or("server_error")?;
    let access = Access {
        grant: grant.id,
        email: user.email.clone(),
        fingerprint: user.fingerprint.clone(),
        expires: call.now + provider.lifetime,
    };
    Ok(reply(
        StatusCode::OK,
        &json!({
            "access_token": provider.access.seal(&access),
            "token_type": "Bearer",
            "expires_in": provider.lifetime,
            "id_token": id_token,
            "scope": grant.scope,
        }),
    ))
}

fn refusal(error: &'static str) -> Response<Bytes> {
    tracing::debug!(error, "token request refused");
    match error {
        "invalid_client" => {
            let mut response = reply(StatusCode::UNAUTHORIZED, &json!({"error": error}));
            let challenge = HeaderValue::from_static("Basic realm=\"token\"");
            response
                .headers_mut()
                .insert(http::header::WWW_AUTHENTICATE, challenge);
            response
        }
        UNAVAILABLE => reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": error})),
        "server_error" => reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": error})),
        _ => reply(StatusCode::BAD_REQUEST, &json!({"error": error})),
    }
}
