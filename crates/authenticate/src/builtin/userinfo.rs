//! Userinfo endpoint (OpenID Connect Core 5.3): the present profile, so that changes of groups are seen.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::provider::{BackCall, LocalProvider, json as reply};
use super::tokens::{Access, Profile};

/// Answers with the profile of the bearer.
pub(crate) fn answer(provider: &LocalProvider, call: BackCall<'_>) -> Response<Bytes> {
    let Some(user) = bearer(call).and_then(|token| holder(provider, token, call.now)) else {
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
fn holder(provider: &LocalProvider, token: &str, now: i64) -> Option<std::sync::Arc<super::users::User>> {
    let access: Access = provider.access.open(token)?;
    let user = provider.users.find(&access.email)?;
    let alive = now < access.expires && !provider.state.codes.is_revoked(&access.grant);
    (alive && user.has_fingerprint(&access.fingerprint)).then_some(user)
}
