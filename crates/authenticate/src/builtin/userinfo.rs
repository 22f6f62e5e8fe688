//! Userinfo endpoint (OpenID Connect Core 5.3): the present profile, so that changes of groups are seen.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use pomerium_api::databroker::{Databroker, Error};
use serde_json::json;

use super::provider::{BackCall, LocalProvider, json as reply};
use super::tokens::{Access, Profile};
use super::users::User;

/// Answers with the profile of the bearer.
pub(crate) async fn answer(
    provider: &LocalProvider,
    broker: &dyn Databroker,
    call: BackCall<'_>,
) -> Response<Bytes> {
    let holder = match bearer(call) {
        Some(token) => holder(provider, broker, token, call.now).await,
        None => Ok(None),
    };
    let holder = match holder {
        Ok(holder) => holder,
        Err(error) => {
            tracing::warn!(%error, "whether a token was withdrawn cannot be asked");
            let body = json!({"error": "temporarily_unavailable"});
            return reply(StatusCode::SERVICE_UNAVAILABLE, &body);
        }
    };
    let Some(user) = holder else {
        let mut response = reply(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_token"}));
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        response
            .headers_mut()
            .insert(http::header::WWW_AUTHENTICATE, challenge);
        return response;
    };
    let mut body = serde_json::to_value(Profile::of(&user)).unwrap_or_default();
    body["sub"] = user.subject.clone().into();
    reply(StatusCode::OK, &body)
}

fn bearer<'a>(call: BackCall<'a>) -> Option<&'a str> {
    let value = call.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who holds the token, as long as it lives, the user exists, the password is the same, and the code that led
/// to it was not used twice.
///
/// Errors when that cannot be asked.
async fn holder(
    provider: &LocalProvider,
    broker: &dyn Databroker,
    token: &str,
    now: i64,
) -> Result<Option<Arc<User>>, Error> {
    let Some(access) = provider.access.open::<Access>(token) else {
        return Ok(None);
    };
    let user = provider.users.find(&access.email);
    let user = user.filter(|user| now < access.expires && user.has_fingerprint(&access.fingerprint));
    match user {
        Some(_) if provider.state.codes.is_withdrawn(broker, &access.grant).await? => Ok(None),
        user => Ok(user),
    }
}
