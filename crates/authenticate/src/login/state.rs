//! The OAuth `state`: sealed, bound to the CSRF cookie, and the bearer of the way back.
//!
//! The way back is kept here rather than trusted to a signed URL's five minutes: people read mails, look for
//! their security key and go for coffee while the provider waits.

use serde::{Deserialize, Serialize};

use super::csrf::CsrfToken;
use super::pending;
use super::step_up::Wanted;

/// What `state` holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginState {
    /// Names the entry in the pending-logins cookie; random.
    pub id: String,
    /// The CSRF cookie of the browser.
    pub csrf: String,
    /// Unix seconds.
    pub started: i64,
    /// Where the login began: an absolute URL on the authenticate host.
    pub return_to: String,
    /// `return_to` carried a good signature at the start, so it is signed anew on the way back.
    pub signed: bool,
    /// Provider that was asked.
    pub idp_id: String,
    /// Logins in a row that led straight back to a login.
    pub round: u8,
    /// What the sign-in has to be, where it cannot be just any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
}

/// Why a state is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not ours, or changed.
    #[error("the login state was not made here, or was changed on the way")]
    Forged,
    /// Another browser began this login, or its cookie did not come back.
    #[error("this browser did not begin this login, or refused its cookie")]
    OtherBrowser,
    /// Took too long.
    #[error("the login took longer than {} minutes", pending::LIFETIME / 60)]
    Expired,
    /// Came from later than now.
    #[error("the login began in the future: the clocks of two servers are apart")]
    FromTheFuture,
    /// The same answer came twice.
    #[error("this login was finished already")]
    Used,
}

impl LoginState {
    /// Checks the state against the browser's CSRF cookie and the clock (Unix seconds).
    pub fn check(&self, csrf: Option<CsrfToken>, now: i64) -> Result<(), StateError> {
        if !csrf.is_some_and(|token| token.is(&self.csrf)) {
            return Err(StateError::OtherBrowser);
        }
        if now - self.started >= pending::LIFETIME {
            return Err(StateError::Expired);
        }
        if self.started > now + 300 {
            return Err(StateError::FromTheFuture);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_to_browser_and_time() {
        let token = CsrfToken::random();
        let state = LoginState {
            id: "id".into(),
            csrf: token.to_text(),
            started: 1_000,
            return_to: "https://auth.example.com/.pomerium/".into(),
            signed: false,
            idp_id: "idp".into(),
            round: 0,
            wanted: None,
        };
        assert_eq!(state.check(Some(token), 1_000), Ok(()));
        assert_eq!(
            state.check(Some(token), 1_000 + 29 * 60),
            Ok(()),
            "longer than a signed URL lives"
        );
        assert_eq!(
            state.check(Some(token), 1_000 + pending::LIFETIME),
            Err(StateError::Expired)
        );
        assert_eq!(state.check(Some(token), 0), Err(StateError::FromTheFuture));
        assert_eq!(
            state.check(Some(CsrfToken::random()), 1_000),
            Err(StateError::OtherBrowser)
        );
        assert_eq!(state.check(None, 1_000), Err(StateError::OtherBrowser));
    }
}
