//! The user info endpoint (OpenID Connect Core 1.0, 5.3), plain or signed.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use pomerium_crypto::jwt::JwtError;
use serde_json::{Map, Value};

use super::id_token::{LEEWAY, check_subject, time};
use super::{Metadata, OidcProvider, fetch};
use crate::{IdentityError, claims};

/// What the endpoint says about someone.
#[derive(Clone)]
pub struct UserInfo {
    /// All of it.
    pub claims: Map<String, Value>,
}

impl OidcProvider {
    /// `None` when the provider has no such endpoint; where it has one, its answer is needed.
    pub(super) async fn fetch_userinfo(
        &self,
        metadata: &Metadata,
        access_token: &str,
        subject: &str,
    ) -> Result<Option<UserInfo>, IdentityError> {
        let Some(url) = metadata.userinfo_endpoint.as_deref() else {
            return Ok(None);
        };
        let request = Request::get(url)
            .header(header::AUTHORIZATION, format!("Bearer {access_token}"))
            .header(header::ACCEPT, "application/json, application/jwt;q=0.9")
            .body(Bytes::new())
            .map_err(|_| fetch::bad_answer(url, "the access token cannot be sent"))?;
        let answer = fetch::send(&*self.http, request).await?;
        match answer.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) => {
                let (error, description) = (String::new(), "user info is not given".to_owned());
                return Err(IdentityError::Refused {
                    what: "access token",
                    status: status.as_u16(),
                    error,
                    description,
                });
            }
            status => return Err(fetch::bad_answer(url, format_args!("status {status}"))),
        }
        let media_type = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let signed = media_type.is_some_and(is_jwt);
        let claims = if signed {
            self.open_signed(metadata, answer.body()).await?
        } else {
            serde_json::from_slice(answer.body()).map_err(|error| fetch::bad_answer(url, error))?
        };
        let found = claims::text(&claims, "sub").ok_or_else(|| fetch::bad_answer(url, "it has no `sub`"))?;
        check_subject("user info", Some(subject), found)?;
        Ok(Some(UserInfo { claims }))
    }

    /// Issuer, audience and times need not be there (5.3.2), but must be right if they are.
    async fn open_signed(
        &self,
        metadata: &Metadata,
        body: &[u8],
    ) -> Result<Map<String, Value>, IdentityError> {
        let token = std::str::from_utf8(body)
            .map_err(|_| IdentityError::IdToken(JwtError::Malformed))?
            .trim();
        let algorithms = metadata.userinfo_algorithms();
        let claims: Map<String, Value> = self
            .keys
            .verify(&metadata.jwks_uri, |keys| {
                keys.verify_signature(token, &algorithms)
            })
            .await?;
        self.check_message(&claims).map_err(IdentityError::IdToken)?;
        Ok(claims)
    }

    fn check_message(&self, claims: &Map<String, Value>) -> Result<(), JwtError> {
        if claims
            .get("iss")
            .is_some_and(|iss| iss != self.config.issuer.as_str())
        {
            return Err(JwtError::Issuer);
        }
        let for_us = |aud: &Value| aud == self.config.client_id.as_str();
        match claims.get("aud") {
            Some(Value::Array(all)) if !all.iter().any(for_us) => return Err(JwtError::Audience),
            Some(one) if !one.is_array() && !for_us(one) => return Err(JwtError::Audience),
            _ => {}
        }
        let now = self.now().as_second();
        if time(claims, "exp").is_some_and(|exp| exp.as_second() + LEEWAY <= now) {
            return Err(JwtError::Expired);
        }
        if time(claims, "nbf").is_some_and(|nbf| nbf.as_second() > now + LEEWAY) {
            return Err(JwtError::NotYetValid);
        }
        Ok(())
    }
}

fn is_jwt(media_type: &str) -> bool {
    media_type
        .split(';')
        .next()
        .is_some_and(|name| name.trim().eq_ignore_ascii_case("application/jwt"))
}
