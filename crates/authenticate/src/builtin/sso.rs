//! The provider's own sign-in cookie: who typed a password in this browser, and when.
//!
//! Sealed, not stored: it survives a restart. It ends with its lifetime, with a change of the password, when
//! the user is removed, and at sign-out. That one is remembered in memory: after a restart a copy of the cookie
//! that somebody kept would count again, until its lifetime is over.

use serde::{Deserialize, Serialize};

use super::users::{User, Users};
use crate::once::OnceSet;
use crate::sealed::Sealer;
use std::sync::Arc;

/// What the cookie holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// Names this sign-in; random.
    pub id: String,
    /// E-mail, lower case.
    pub email: String,
    /// [`User::fingerprint`] at the time.
    pub fingerprint: String,
    /// When the password was typed, Unix seconds.
    pub auth_time: i64,
}

impl SignIn {
    /// A sign-in of `user`, now.
    pub fn new(user: &User, now: i64) -> Self {
        Self {
            id: pomerium_crypto::random::base64url(16),
            email: user.email.clone(),
            fingerprint: user.fingerprint.clone(),
            auth_time: now,
        }
    }
}

/// Reads a cookie value. `None` unless it still counts at `now` for a life of `lifetime` seconds.
pub fn read(
    sealer: &Sealer,
    value: &str,
    users: &Users,
    ended: &OnceSet,
    (now, lifetime): (i64, i64),
) -> Option<(SignIn, Arc<User>)> {
    let sign_in: SignIn = sealer.open(value)?;
    let user = users.find(&sign_in.email)?;
    let alive = now - sign_in.auth_time < lifetime && sign_in.auth_time <= now + 60;
    (alive && user.has_fingerprint(&sign_in.fingerprint) && !ended.holds(&sign_in.id))
        .then_some((sign_in, user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pomerium_config::settings::{LocalUser, Secret};

    fn users(hash: &str) -> Users {
        Users::new(&[LocalUser {
            email: "user@example.com".into(),
            name: "User".into(),
            groups: vec![],
            password_hash: Secret::new(hash.as_bytes()),
        }])
    }

    #[test]
    fn it_ends_with_time_password_user_and_sign_out() {
        let sealer = Sealer::new(&[1; 32], "sso");
        let ended = OnceSet::new(3600, 10);
        let before = users("$hash$1");
        let sign_in = SignIn::new(&before.find("user@example.com").unwrap(), 1_000);
        let value = sealer.seal(&sign_in);
        let alive = |users: &Users, now| read(&sealer, &value, users, &ended, (now, 3600)).is_some();

        assert!(alive(&before, 1_000));
        assert!(alive(&before, 4_599));
        assert!(!alive(&before, 4_600), "its life is over");
        assert!(!alive(&before, 900), "from the future");
        assert!(!alive(&users("$hash$2"), 1_000), "the password changed");
        assert!(!alive(&Users::default(), 1_000), "the user is gone");
        ended.claim(&sign_in.id, 1_000);
        assert!(!alive(&before, 1_000), "signed out");
    }
}
