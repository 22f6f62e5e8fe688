//! What of a session is kept. A process that judges requests reads no tokens, unless its configuration says so, and they
//! are most of a record: they stay with the databroker.

use crate::pb::session::{OAuthToken, Session};

/// Parts of a session that are kept only where something reads them; a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Parts(u8);

impl Parts {
    /// Nothing but what every decision looks at.
    pub const NONE: Self = Self(0);
    /// The ID token as the identity provider signed it, and what it said of itself.
    pub const ID_TOKEN: Self = Self(1);
    /// The access token of the identity provider.
    pub const ACCESS_TOKEN: Self = Self(1 << 1);
    /// The refresh token, and everything else that only those read who read the record itself.
    const REST: Self = Self(1 << 2);
    /// The whole record, as policies see records.
    pub const RECORD: Self = Self(0b111);

    /// What is in either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether something is in both.
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// Whether all of `other` is in this.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

/// Takes out of a session what is not to be kept, and says what that was.
///
/// When the session ends stays the same (spec authentication.md 9): the end of an access token counts where it cannot be
/// refreshed, and stays there; where it can, it does not, and goes with the refresh token.
pub(super) fn narrow(session: &mut Session, keep: Parts) -> Parts {
    if keep.covers(Parts::RECORD) {
        return Parts::NONE;
    }
    let mut left_out = Parts::NONE;
    if !keep.any(Parts::ID_TOKEN) && session.id_token.take().is_some() {
        left_out = left_out.and(Parts::ID_TOKEN);
    }
    if !std::mem::take(&mut session.audience).is_empty() {
        left_out = left_out.and(Parts::REST);
    }
    let Some(token) = session.oauth_token.take() else {
        return left_out;
    };
    let (token, gone) = narrow_token(token, session.refresh_disabled, keep);
    session.oauth_token = Some(token).filter(|token| *token != OAuthToken::default());
    left_out.and(gone)
}

fn narrow_token(mut token: OAuthToken, refresh_disabled: bool, keep: Parts) -> (OAuthToken, Parts) {
    let mut left_out = Parts::NONE;
    if !keep.any(Parts::ACCESS_TOKEN) && !std::mem::take(&mut token.access_token).is_empty() {
        left_out = left_out.and(Parts::ACCESS_TOKEN);
    }
    let refreshed = !refresh_disabled && !token.refresh_token.is_empty();
    let rest = OAuthToken {
        access_token: std::mem::take(&mut token.access_token),
        expires_at: token.expires_at.filter(|_| !refreshed),
        ..OAuthToken::default()
    };
    let same =
        token.refresh_token.is_empty() && token.token_type.is_empty() && token.expires_at == rest.expires_at;
    if !same {
        left_out = left_out.and(Parts::REST);
    }
    (rest, left_out)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb::session::IdToken;

    fn session() -> Session {
        Session {
            id: "s".into(),
            user_id: "u".into(),
            id_token: Some(IdToken {
                subject: "u".into(),
                raw: "the id token".into(),
                ..IdToken::default()
            }),
            oauth_token: Some(OAuthToken {
                access_token: "the access token".into(),
                token_type: "bearer".into(),
                expires_at: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
                refresh_token: "the refresh token".into(),
            }),
            audience: vec!["host".into()],
            idp_id: "idp".into(),
            ..Session::default()
        }
    }

    fn narrowed(keep: Parts) -> (Session, Parts) {
        let mut narrow = session();
        let left_out = super::narrow(&mut narrow, keep);
        (narrow, left_out)
    }

    #[test]
    fn no_token_is_kept_that_nobody_reads() {
        let (kept, left_out) = narrowed(Parts::NONE);
        assert_eq!((kept.id.as_str(), kept.user_id.as_str()), ("s", "u"));
        assert!(kept.id_token.is_none() && kept.oauth_token.is_none() && kept.audience.is_empty());
        assert_eq!(left_out, Parts::RECORD);
        let bytes = String::from_utf8_lossy(&kept.encode_to_vec()).into_owned();
        assert!(!bytes.contains("token"), "{bytes}");
    }

    #[test]
    fn what_is_read_is_kept() {
        let (kept, left_out) = narrowed(Parts::ID_TOKEN);
        assert_eq!(kept.id_token, session().id_token);
        assert!(kept.oauth_token.is_none());
        assert_eq!(left_out, Parts::ACCESS_TOKEN.and(Parts::REST));

        let (kept, left_out) = narrowed(Parts::ACCESS_TOKEN);
        let token = kept.oauth_token.unwrap();
        assert_eq!(token.access_token, "the access token");
        assert!(token.refresh_token.is_empty() && token.expires_at.is_none());
        assert_eq!(left_out, Parts::ID_TOKEN.and(Parts::REST));

        assert_eq!(narrowed(Parts::RECORD), (session(), Parts::NONE));
    }

    #[test]
    fn the_end_of_a_token_that_is_not_refreshed_stays() {
        for (refresh_token, refresh_disabled) in [("", false), ("r", true)] {
            let mut lasting = session();
            lasting.refresh_disabled = refresh_disabled;
            let token = lasting.oauth_token.as_mut().unwrap();
            token.refresh_token = refresh_token.into();
            narrow(&mut lasting, Parts::NONE);
            let token = lasting.oauth_token.unwrap();
            assert_eq!(token.expires_at.unwrap().seconds, 5);
            assert!(token.refresh_token.is_empty() && token.access_token.is_empty());
        }
    }

    #[test]
    fn a_session_without_tokens_lacks_none() {
        let mut plain = Session {
            id: "s".into(),
            ..Session::default()
        };
        assert_eq!(narrow(&mut plain, Parts::NONE), Parts::NONE);
    }
}
