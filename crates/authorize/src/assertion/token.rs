//! The claims of an assertion and the values of the claim headers.

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use pomerium_crypto::jwt::{JwtError, SigningKey};
use serde_json::{Map, Value, json};

use super::{ActAs, AssertionRoute, IdentityHeaders};
use crate::claims::joined;
use crate::principal::Principal;

/// How long an assertion is valid, seconds.
const VALID_FOR: i64 = 300;

pub(super) fn headers(
    key: &SigningKey,
    principal: Option<&Principal>,
    route: &AssertionRoute<'_>,
    now: Timestamp,
) -> Result<IdentityHeaders, JwtError> {
    let claims = claims(principal, route, now);
    let token = key.sign(&claims)?;
    // Base64url and dots always make a header value.
    let assertion = HeaderValue::from_str(&token).map_err(|_| JwtError::Signing)?;
    let header = |(name, claim): &(HeaderName, String)| (name.clone(), header_value(claims.get(claim)));
    Ok(IdentityHeaders {
        assertion,
        claims: route.claim_headers.iter().map(header).collect(),
        act_as: ActAs::of(&claims),
    })
}

fn claims(principal: Option<&Principal>, route: &AssertionRoute<'_>, now: Timestamp) -> Map<String, Value> {
    let issued = now.as_second();
    let issuer = if route.issuer_format_uri {
        format!("https://{}/", route.hostname)
    } else {
        route.hostname.to_owned()
    };
    let text = |read: fn(&Principal) -> &str| principal.map_or("", read);
    let base = json!({
        "iss": issuer,
        "aud": route.hostname,
        "jti": uuid::Builder::from_random_bytes(pomerium_crypto::random::bytes()).into_uuid().to_string(),
        "iat": issued,
        "exp": issued + VALID_FOR,
        "sub": text(|principal| &principal.user_id),
        "user": text(|principal| &principal.user_id),
        "email": text(Principal::assertion_email),
        "groups": principal.map(|principal| principal.groups(route.groups_filter)).unwrap_or_default(),
        "sid": text(|principal| &principal.session_id),
        "name": text(|principal| &principal.name),
    });
    let Value::Object(mut claims) = base else {
        return Map::new();
    };
    for (_, claim) in route.claim_headers.iter() {
        if !claims.contains_key(claim)
            && let Some(values) = principal.and_then(|principal| principal.claim(claim))
        {
            claims.insert(claim.clone(), joined(values).into());
        }
    }
    claims
}

/// A claim as a header value. A claim that is missing, or that cannot stand in a header, is empty.
fn header_value(claim: Option<&Value>) -> HeaderValue {
    let text = match claim {
        None => String::new(),
        Some(Value::Array(values)) => joined(values),
        Some(value) => joined(std::slice::from_ref(value)),
    };
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
}
