//! When a session ends (spec authentication.md 9).

use jiff::Timestamp;
use pomerium_api::pb::session::Session;
use pomerium_api::records::from_proto_time;

/// The moment a record names. Unset, and anything up to the year 1970, is none; a moment that cannot be
/// read has passed.
pub(crate) fn moment(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    const YEAR_1971: i64 = 31_536_000;
    let at = at.filter(|at| at.seconds >= YEAR_1971)?;
    Some(from_proto_time(at).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The earlier of two ends; none is never.
pub(crate) fn earlier(left: Option<Timestamp>, right: Option<Timestamp>) -> Option<Timestamp> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    }
}

/// When a session ends: at its own end, or with an access token that cannot be refreshed.
pub(crate) fn session_end(session: &Session) -> Option<Timestamp> {
    let own = moment(session.expires_at.as_ref());
    let Some(token) = &session.oauth_token else {
        return own;
    };
    if !session.refresh_disabled && !token.refresh_token.is_empty() {
        return own;
    }
    earlier(own, moment(token.expires_at.as_ref()))
}

#[cfg(test)]
mod tests {
    use pomerium_api::pb::session::OAuthToken;

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn end(own: i64, token: i64, refresh_token: &str, refresh_disabled: bool) -> Option<i64> {
        let oauth_token = Some(OAuthToken {
            expires_at: at(token),
            refresh_token: refresh_token.into(),
            ..OAuthToken::default()
        });
        let session = Session {
            expires_at: at(own),
            oauth_token,
            refresh_disabled,
            ..Session::default()
        };
        session_end(&session).map(Timestamp::as_second)
    }

    const SOON: i64 = 1_800_000_000;
    const LATE: i64 = 1_900_000_000;

    #[test]
    fn a_session_ends_with_a_token_that_cannot_be_refreshed() {
        assert_eq!(end(LATE, SOON, "", false), Some(SOON));
        assert_eq!(end(LATE, SOON, "r", true), Some(SOON));
        assert_eq!(end(LATE, SOON, "r", false), Some(LATE));
        assert_eq!(end(SOON, LATE, "", false), Some(SOON));
    }

    #[test]
    fn unset_times_do_not_end_a_session() {
        assert_eq!(session_end(&Session::default()), None);
        // The zero moments of the record format and of the original.
        assert_eq!(end(0, 0, "", false), None);
        assert_eq!(end(-62_135_596_800, 31_535_999, "", true), None);
        assert_eq!(end(31_536_000, 0, "", true), Some(31_536_000));
    }

    #[test]
    fn a_moment_that_cannot_be_read_has_passed() {
        assert_eq!(end(i64::MAX, 0, "", false), Some(0));
    }
}
