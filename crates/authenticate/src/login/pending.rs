//! Logins that a browser has begun and not finished: one sealed cookie, a handful of entries at most.
//!
//! The PKCE verifier and the nonce live here and nowhere else: never in a URL, never on the server. One cookie
//! for all of them, so that many tabs cannot fill the cookie jar.

use serde::{Deserialize, Serialize};

/// Seconds a login may take from its start to the callback.
pub const LIFETIME: i64 = 30 * 60;
/// Logins at the same time per browser; with one more the oldest is given up.
pub const MAX: usize = 5;

/// One login under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingLogin {
    /// The `id` in the login state.
    #[serde(rename = "i")]
    pub id: String,
    /// PKCE verifier.
    #[serde(rename = "v")]
    pub verifier: String,
    /// Nonce sent to the provider.
    #[serde(rename = "n")]
    pub nonce: String,
    /// Unix seconds.
    #[serde(rename = "t")]
    pub started: i64,
    /// Session this browser had with the same provider: it ends when the login succeeds.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

impl std::fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingLogin")
            .field("id", &self.id)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// All logins under way in one browser, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingLogins(Vec<PendingLogin>);

impl PendingLogins {
    /// Adds a login; forgets old ones and, over the limit, the oldest.
    pub fn add(&mut self, login: PendingLogin, now: i64) {
        self.0.retain(|known| now - known.started < LIFETIME);
        let surplus = (self.0.len() + 1).saturating_sub(MAX);
        self.0.drain(..surplus);
        self.0.push(login);
    }

    /// Takes the login out: it can be finished once.
    pub fn take(&mut self, id: &str, now: i64) -> Option<PendingLogin> {
        let at = self.0.iter().position(|login| login.id == id)?;
        let login = self.0.remove(at);
        (now - login.started < LIFETIME).then_some(login)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(id: &str, started: i64) -> PendingLogin {
        PendingLogin {
            id: id.into(),
            verifier: "v".repeat(43),
            nonce: "n".repeat(43),
            started,
            replaces: None,
        }
    }

    #[test]
    fn each_login_finishes_once_and_in_time() {
        let mut logins = PendingLogins::default();
        logins.add(login("a", 0), 0);
        logins.add(login("b", 10), 10);
        assert_eq!(logins.take("a", 20), Some(login("a", 0)));
        assert_eq!(logins.take("a", 20), None);
        assert_eq!(logins.take("b", 10 + LIFETIME), None);
        assert!(logins.is_empty());
    }

    #[test]
    fn the_cookie_stays_small() {
        let mut logins = PendingLogins::default();
        for n in 0..50 {
            logins.add(
                PendingLogin {
                    replaces: Some("s".repeat(36)),
                    ..login(&format!("{n:022}"), n)
                },
                n,
            );
        }
        assert_eq!(logins.0.len(), MAX);
        assert!(logins.take(&format!("{:022}", 49), 60).is_some());
        let sealed = crate::sealed::Sealer::new(&[0; 32], "x").seal(&logins);
        assert!(sealed.len() < 1_600, "{}", sealed.len());
    }
}
