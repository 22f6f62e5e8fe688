//! The session handle: a small signed token that names a session, and where a request may carry it
//! (authentication.md 7). Whether the session still lives is the resolver's business, not the handle's.

use http::{HeaderMap, header};
use pomerium_crypto::jwt::{self, JwtError};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{canonical::POMERIUM_AUTHORIZATION, cookies};

/// The claims of a handle. Empty fields are not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Handle {
    /// Session or service account id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// User id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// The authenticate host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iss: String,
    /// The hosts it was made for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "is_zero_i64")]
    pub iat: i64,
    /// The identity provider; empty for service accounts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub idp_id: String,
    /// Which databroker wrote the session.
    #[serde(skip_serializing_if = "is_zero")]
    pub databroker_server_version: u64,
    /// A cached session older than this must be read again.
    #[serde(skip_serializing_if = "is_zero")]
    pub databroker_record_version: u64,
}

/// A token that is no handle of ours.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Not a token signed with the shared key, or not the shape of a handle.
    #[error("session handle is not valid: {0}")]
    Token(#[from] JwtError),
    /// It names nothing.
    #[error("session handle has no id")]
    NoId,
}

/// A handle is some hundred bytes; no cookie is longer than this.
const MAX_LEN: usize = 8192;

impl Handle {
    /// Signs the handle with the shared key (HS256).
    pub fn encode(&self, shared_key: &[u8]) -> String {
        jwt::hs256_sign(shared_key, self)
    }

    /// Checks the signature and reads the claims. `exp`, `nbf`, `aud` and `iss` are not looked at: the
    /// session record decides. An `oid` claim stands before `sub`.
    ///
    /// # Errors
    /// [`HandleError`] for anything else than a handle we signed.
    pub fn decode(shared_key: &[u8], token: &str) -> Result<Self, HandleError> {
        let wire: Wire = jwt::hs256_verify_within(shared_key, token, MAX_LEN)?;
        let handle = Self::from(wire);
        if handle.jti.is_empty() {
            Err(HandleError::NoId)
        } else {
            Ok(handle)
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Wire {
    jti: String,
    sub: String,
    oid: String,
    iss: String,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    #[serde(deserialize_with = "whole_seconds")]
    iat: i64,
    idp_id: String,
    databroker_server_version: u64,
    databroker_record_version: u64,
}

impl From<Wire> for Handle {
    fn from(wire: Wire) -> Self {
        Self {
            jti: wire.jti,
            sub: if wire.oid.is_empty() { wire.sub } else { wire.oid },
            iss: wire.iss,
            aud: wire.aud,
            iat: wire.iat,
            idp_id: wire.idp_id,
            databroker_server_version: wire.databroker_server_version,
            databroker_record_version: wire.databroker_record_version,
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(from)? {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
    })
}

/// A NumericDate may carry a fraction (RFC 7519 section 2).
fn whole_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    #[allow(clippy::cast_possible_truncation, reason = "seconds; `as` saturates")]
    let fraction = || number.as_f64().map(|seconds| seconds as i64);
    Ok(number.as_i64().or_else(fraction).unwrap_or_default())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero_i64(number: &i64) -> bool {
    *number == 0
}

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The session cookie.
    Cookie,
    /// `X-Pomerium-Authorization: <token>`.
    PomeriumHeader,
    /// `Authorization: Pomerium <token>`.
    AuthorizationPomerium,
    /// `Authorization: Bearer Pomerium-<token>`.
    AuthorizationBearer,
    /// Query `pomerium_session=<token>`.
    Query,
}

impl Source {
    /// Whether a program sent it: such a client is never redirected to a sign-in page (policy.md 8.6).
    pub fn is_programmatic(self) -> bool {
        self != Self::Cookie
    }
}

/// The first source that carries a token: cookie, the three headers, then the query. A malformed token in
/// an earlier source hides the later ones, on purpose.
pub fn find_token<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    cookie_name: &str,
) -> Option<(Source, &'a str)> {
    let cookie = cookies::get(headers, cookie_name).filter(|token| !token.is_empty());
    cookie
        .map(|token| (Source::Cookie, token))
        .or_else(|| find_programmatic(headers, query))
}

/// The same without the cookie.
pub fn find_programmatic<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<(Source, &'a str)> {
    let text = |name: &http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let some = |source, token: &'a str| (!token.is_empty()).then_some((source, token));
    let own = || some(Source::PomeriumHeader, text(&POMERIUM_AUTHORIZATION)?);
    let authorization = || {
        let value = text(&header::AUTHORIZATION)?;
        if let Some(token) = value.strip_prefix("Pomerium ") {
            return some(Source::AuthorizationPomerium, token);
        }
        some(
            Source::AuthorizationBearer,
            value.strip_prefix("Bearer Pomerium-")?,
        )
    };
    let in_query = || {
        let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
        some(
            Source::Query,
            pairs.find(|(name, _)| *name == "pomerium_session")?.1,
        )
    };
    own().or_else(authorization).or_else(in_query)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn round_trip_and_empty_fields_are_left_out() {
        let handle = Handle {
            jti: "s1".into(),
            sub: "u1".into(),
            iss: "authenticate.example.com".into(),
            aud: vec!["app.example.com".into()],
            iat: 1_700_000_000,
            databroker_record_version: 7,
            ..Handle::default()
        };
        let token = handle.encode(KEY);
        assert_eq!(Handle::decode(KEY, &token).unwrap(), handle);
        let json = serde_json::to_value(&handle).unwrap();
        assert!(json.get("idp_id").is_none() && json.get("databroker_server_version").is_none());
        assert!(json.get("exp").is_none());
    }

    #[test]
    fn oid_stands_before_sub_and_a_plain_audience_is_read() {
        let claims =
            serde_json::json!({"jti": "s", "sub": "a", "oid": "b", "aud": "h", "iat": 1.5, "exp": 1});
        let handle = Handle::decode(KEY, &jwt::hs256_sign(KEY, &claims)).unwrap();
        assert_eq!(
            (handle.sub.as_str(), handle.aud, handle.iat),
            ("b", vec!["h".to_owned()], 1)
        );
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let token = Handle {
            jti: "s".into(),
            ..Handle::default()
        }
        .encode(KEY);
        assert!(Handle::decode(b"another key another key another!", &token).is_err());
        assert!(Handle::decode(KEY, &token[..token.len() - 1]).is_err());
        assert!(Handle::decode(KEY, &format!("{token}.x")).is_err());
        assert!(Handle::decode(KEY, "").is_err());
        let no_id = jwt::hs256_sign(KEY, &serde_json::json!({"sub": "u"}));
        assert!(matches!(Handle::decode(KEY, &no_id), Err(HandleError::NoId)));
        // alg "none" with an empty signature.
        assert!(Handle::decode(KEY, "eyJhbGciOiJub25lIn0.eyJqdGkiOiJzIn0.").is_err());
    }

    #[test]
    fn sources_in_order() {
        let query = Some("a=1&pomerium_session=q&pomerium_session=r");
        let all = headers(&[
            ("cookie", "_pomerium=c"),
            ("x-pomerium-authorization", "h"),
            ("authorization", "Pomerium p"),
        ]);
        assert_eq!(find_token(&all, query, "_pomerium"), Some((Source::Cookie, "c")));
        assert_eq!(
            find_token(&all, query, "_other"),
            Some((Source::PomeriumHeader, "h"))
        );
        let pomerium = headers(&[("authorization", "Pomerium p"), ("cookie", "_pomerium=")]);
        assert_eq!(
            find_token(&pomerium, query, "_pomerium"),
            Some((Source::AuthorizationPomerium, "p"))
        );
        let bearer = headers(&[("authorization", "Bearer Pomerium-b")]);
        assert_eq!(
            find_token(&bearer, query, "_pomerium"),
            Some((Source::AuthorizationBearer, "b"))
        );
        assert_eq!(
            find_token(&HeaderMap::new(), query, "_pomerium"),
            Some((Source::Query, "q"))
        );
        for other in ["pomerium p", "Bearer x", "Basic x", "Pomerium "] {
            let map = headers(&[("authorization", other)]);
            assert_eq!(find_token(&map, None, "_pomerium"), None, "{other}");
        }
    }
}
