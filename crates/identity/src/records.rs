//! From what a provider says to the records that are kept (spec authentication.md 4.4, 8).

use std::collections::HashMap;

use jiff::Timestamp;
use pomerium_api::pb::session::{IdToken as IdTokenRecord, OAuthToken, Session};
use pomerium_api::pb::user::User;
use pomerium_api::records::{from_proto_time, to_proto_time};
use prost_types::ListValue;
use serde_json::{Map, Value};

use crate::oidc::{IdToken, Identity, Tokens};
use crate::{claims, claims::flatten_claims};

/// What a new session needs besides an identity.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The provider's configuration it was signed in with.
    pub idp_id: String,
    /// Hosts it is for.
    pub audience: Vec<String>,
    /// Now.
    pub issued_at: Timestamp,
    /// When it ends, whatever the provider's tokens say.
    pub expires_at: Timestamp,
}

/// A new session. Its id is random: one sent by the provider (`jti`) would let it choose ours.
pub fn session_from_identity(identity: &Identity, new: &NewSession) -> Session {
    Session {
        id: uuid::Uuid::new_v4().to_string(),
        user_id: identity.user_id().to_owned(),
        issued_at: Some(to_proto_time(new.issued_at)),
        accessed_at: Some(to_proto_time(new.issued_at)),
        expires_at: Some(to_proto_time(new.expires_at)),
        id_token: Some(id_token_record(&identity.id_token)),
        oauth_token: Some(oauth_token(&identity.tokens, Some(new.expires_at))),
        claims: flatten_claims(&identity.claims),
        audience: new.audience.clone(),
        idp_id: new.idp_id.clone(),
        ..Session::default()
    }
}

/// The user an identity is about. What `existing` knows beyond the identity (devices) stays; claims the
/// provider no longer sends go, so that a lost group is lost.
pub fn user_from_identity(identity: &Identity, existing: Option<&User>) -> User {
    let id = identity.user_id().to_owned();
    let mut user = existing.cloned().unwrap_or_default();
    user.id = id;
    apply_identity(&mut user, &identity.claims);
    user
}

/// Sets name, e-mail and claims of a user from claims not yet flattened.
pub fn apply_identity(user: &mut User, all: &Map<String, Value>) {
    user.name = claims::text(all, "name").unwrap_or_default().to_owned();
    user.email = claims::text(all, "email").unwrap_or_default().to_owned();
    user.claims = flatten_claims(all);
}

/// The tokens as a record, for a session that ends at `session_end`.
///
/// Without a refresh token the end of the access token is not kept if it comes before that of the session: it
/// would end the session (spec authentication.md 9), although the session's life is ours to decide.
pub fn oauth_token(tokens: &Tokens, session_end: Option<Timestamp>) -> OAuthToken {
    let outlives = |end: &Timestamp| session_end.is_some_and(|session| *end >= session);
    let expires_at = tokens
        .expires_at
        .filter(|end| tokens.refresh_token.is_some() || outlives(end));
    OAuthToken {
        access_token: tokens.access_token.clone(),
        token_type: tokens.token_type.clone(),
        expires_at: expires_at.map(to_proto_time),
        refresh_token: tokens.refresh_token.clone().unwrap_or_default(),
    }
}

/// The tokens of a record.
pub fn tokens_of(record: &OAuthToken) -> Tokens {
    Tokens {
        access_token: record.access_token.clone(),
        token_type: record.token_type.clone(),
        refresh_token: Some(record.refresh_token.clone()).filter(|token| !token.is_empty()),
        expires_at: record.expires_at.as_ref().and_then(from_proto_time),
    }
}

pub(crate) fn id_token_record(token: &IdToken) -> IdTokenRecord {
    IdTokenRecord {
        issuer: token.issuer.clone(),
        subject: token.subject.clone(),
        expires_at: token.expires_at.map(to_proto_time),
        issued_at: token.issued_at.map(to_proto_time),
        raw: token.raw.clone(),
    }
}

/// Claims of an ID token that was checked when it was stored. `None` when there is none to read.
pub(crate) fn stored_claims(raw: &str) -> Option<Map<String, Value>> {
    let payload = raw.split('.').nth(1)?;
    serde_json::from_slice(&pomerium_crypto::encoding::base64url_decode(payload).ok()?).ok()
}

/// Those flattened claims of a session that name its first sign-in; a refresh leaves them alone.
pub(crate) fn sign_in_claims(
    claims: &HashMap<String, ListValue>,
) -> impl Iterator<Item = (&String, &ListValue)> {
    claims.iter().filter(|(name, _)| {
        ["iss", "sub", "exp", "iat"].contains(&name.as_str())
            || claims::AUTHENTICATION.contains(&name.as_str())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::testing::{FakeProvider, start};

    async fn identity(claims: Value, answer: Value) -> Identity {
        let fake = FakeProvider::new();
        fake.grant(claims, answer);
        fake.client().exchange("code", None, Some("n-1")).await.unwrap()
    }

    fn new_session() -> NewSession {
        NewSession {
            idp_id: "idp-1".into(),
            audience: vec!["auth.example.com".into(), "app.example.com".into()],
            issued_at: start(),
            expires_at: start() + Duration::from_secs(14 * 3600),
        }
    }

    #[tokio::test]
    async fn a_session_holds_what_the_sign_in_gave() {
        let identity = identity(json!({}), json!({})).await;
        let session = session_from_identity(&identity, &new_session());
        assert_eq!(
            (session.user_id.as_str(), session.idp_id.as_str()),
            ("member", "idp-1")
        );
        assert_eq!(
            session.expires_at,
            Some(to_proto_time(start() + Duration::from_secs(14 * 3600)))
        );
        assert_eq!(session.claims["groups"].values.len(), 1);
        let token = session.id_token.unwrap();
        assert_eq!(
            (token.subject.as_str(), token.raw.as_str()),
            ("member", identity.id_token.raw.as_str())
        );
        assert_eq!(stored_claims(&token.raw).unwrap()["name"], "Member");
        let tokens = session.oauth_token.unwrap();
        assert_eq!(
            (tokens.access_token.as_str(), tokens.refresh_token.as_str()),
            ("access-1", "refresh-1")
        );
        assert_eq!(
            tokens.expires_at,
            Some(to_proto_time(start() + Duration::from_secs(300)))
        );
        assert_eq!(tokens_of(&tokens).refresh_token.as_deref(), Some("refresh-1"));
    }

    #[tokio::test]
    async fn the_provider_does_not_choose_session_ids() {
        let identity = identity(json!({"jti": "fixed"}), json!({})).await;
        let ids = [(); 2].map(|()| session_from_identity(&identity, &new_session()).id);
        assert_ne!(ids[0], ids[1]);
        assert!(
            ids.iter()
                .all(|id| uuid::Uuid::parse_str(id).unwrap().get_version_num() == 4)
        );
    }

    #[tokio::test]
    async fn without_a_refresh_token_the_access_token_does_not_end_the_session() {
        let identity = identity(json!({}), json!({"refresh_token": null})).await;
        let session = session_from_identity(&identity, &new_session());
        assert_eq!(session.oauth_token.unwrap().expires_at, None);
    }

    #[tokio::test]
    async fn users_keep_their_devices_and_lose_lost_groups() {
        let identity = identity(json!({}), json!({})).await;
        let mut existing = User {
            device_credential_ids: vec!["key-1".into()],
            ..User::default()
        };
        existing.claims.insert("admin".into(), ListValue::default());
        let user = user_from_identity(&identity, Some(&existing));
        let about = (user.id.as_str(), user.name.as_str(), user.email.as_str());
        assert_eq!(about, ("member", "Member", "member@example.com"));
        assert_eq!(user.device_credential_ids, ["key-1"]);
        assert!(user.claims.contains_key("groups") && !user.claims.contains_key("admin"));
    }
}
