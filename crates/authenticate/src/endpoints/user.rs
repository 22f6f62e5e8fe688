//! `/.pomerium/user` and `/.pomerium/jwt`: who the upstream is told I am (spec authentication.md 3.2).

use http::{Method, StatusCode};
use pomerium_authorize::Principal;
use pomerium_crypto::encoding;
use pomerium_web::pages::Group;
use pomerium_web::{Response, body, negotiate};
use serde_json::{Map, Value, json};

use super::person;
use crate::call::Call;
use crate::{Authenticate, Error, reply, service};

impl Authenticate {
    /// The claims of the assertion, as JSON, without the ones that are about the token; beside them each group that
    /// policies see, with where it came from.
    pub(crate) fn user(&self, call: &Call) -> Result<Response, Error> {
        service::only(call, &[Method::GET, Method::HEAD])?;
        let principal = self.require(call)?;
        let claims = call
            .context
            .assertion
            .as_ref()
            .and_then(|token| claims_of(token.as_bytes()));
        let mut claims = claims
            .filter(|claims| claims.get("sub").is_some_and(Value::is_string))
            .ok_or(Error::NotFound)?;
        let group = |group: Group| json!({ "id": group.id, "name": group.name, "source": group.source });
        let groups: Vec<Value> = person::groups(principal).into_iter().map(group).collect();
        claims.insert("group_sources".to_owned(), groups.into());
        Ok(reply::json(StatusCode::OK, &Value::Object(claims)))
    }

    /// The assertion itself; off unless the runtime flag is set.
    pub(crate) fn jwt(&self, call: &Call) -> Result<Response, Error> {
        if !self.options.flags.pomerium_jwt_endpoint {
            return Err(Error::NotFound);
        }
        service::only(call, &[Method::GET, Method::HEAD])?;
        self.require(call)?;
        let assertion = call.context.assertion.as_ref().ok_or(Error::NotFound)?;
        let mut response = body::response(StatusCode::OK, "application/jwt", assertion.as_bytes().to_vec());
        reply::no_store(&mut response);
        Ok(response)
    }

    /// Who is signed in on this host; otherwise the way to the sign-in page.
    pub(crate) fn require<'a>(&self, call: &'a Call) -> Result<&'a Principal, Error> {
        if let Some(principal) = &call.context.principal {
            return Ok(principal);
        }
        let login_url = self.sign_in_link(&call.url(), call.context.route.as_deref(), call.now);
        if negotiate::redirect_allowed(&call.canonical, &call.headers) {
            Err(Error::SignIn { login_url })
        } else {
            Err(Error::LoginNeeded { login_url })
        }
    }
}

/// The claims of an assertion that we signed a moment ago.
fn claims_of(token: &[u8]) -> Option<Map<String, Value>> {
    let payload = token.split(|byte| *byte == b'.').nth(1)?;
    let mut claims: Map<String, Value> =
        serde_json::from_slice(&encoding::base64url_decode(payload).ok()?).ok()?;
    for name in ["iss", "aud", "exp", "iat", "jti"] {
        claims.remove(name);
    }
    Some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_about_the_token_are_left_out() {
        let payload = encoding::base64url_encode(
            br#"{"iss":"a","aud":"b","exp":3,"iat":2,"jti":"c","sub":"user","email":"user@example.com"}"#,
        );
        let claims = claims_of(format!("e30.{payload}.sig").as_bytes()).unwrap();
        assert_eq!(
            Value::Object(claims),
            serde_json::json!({"sub": "user", "email": "user@example.com"})
        );
        assert_eq!(claims_of(b"junk"), None);
    }
}
