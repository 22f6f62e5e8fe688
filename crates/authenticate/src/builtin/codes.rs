//! Authorization codes: random, good once, for a minute, and bound to all they were given for.
//! In memory on purpose: a code must not outlive the process that gave it.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use pomerium_crypto::random;

use super::pkce;
use super::provider::LONGEST;
use crate::once::OnceSet;

/// Seconds from the sign-in page to the token endpoint.
pub const LIFETIME: i64 = 60;
const CAPACITY: usize = 10_000;

/// What a code stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Names this grant in the tokens it leads to; random.
    pub id: String,
    /// Client the code was given to.
    pub client_id: String,
    /// Exactly the redirect URI of the authorization request.
    pub redirect_uri: String,
    /// S256 challenge.
    pub code_challenge: String,
    /// Echoed in the ID token.
    pub nonce: Option<String>,
    /// Scopes, as asked for.
    pub scope: String,
    /// Who signed in: e-mail, lower case.
    pub email: String,
    /// Fingerprint of their password then.
    pub fingerprint: String,
    /// When the password was typed, Unix seconds.
    pub auth_time: i64,
}

/// What the token endpoint was shown beside the code; the client is authenticated already.
#[derive(Debug, Clone, Copy)]
pub struct Redemption<'a> {
    /// The authenticated client.
    pub client_id: &'a str,
    /// `redirect_uri` parameter.
    pub redirect_uri: &'a str,
    /// `code_verifier` parameter.
    pub code_verifier: &'a str,
}

/// The codes that are out.
pub struct CodeStore {
    inner: Mutex<Inner>,
    revoked: OnceSet,
}

impl std::fmt::Debug for CodeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeStore")
            .field("codes", &self.inner.lock().codes.len())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    codes: HashMap<String, Entry>,
    order: VecDeque<(i64, String)>,
}

struct Entry {
    grant: Grant,
    expires: i64,
    used: bool,
}

impl Default for CodeStore {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            revoked: OnceSet::new(LONGEST, CAPACITY),
        }
    }
}

impl CodeStore {
    /// A new code for `grant`.
    pub fn issue(&self, grant: Grant, now: i64) -> String {
        let code = random::base64url(32);
        let expires = now + LIFETIME;
        let mut inner = self.inner.lock();
        inner.forget(now);
        inner.order.push_back((expires, code.clone()));
        inner.codes.insert(
            code.clone(),
            Entry {
                grant,
                expires,
                used: false,
            },
        );
        code
    }

    /// Exchanges a code. `None` when it is unknown, expired, used, or was given for something else; which of
    /// these is nobody's business. Any attempt uses the code up, and a second use ends what the first gave
    /// (RFC 6749 4.1.2).
    pub fn redeem(&self, code: &str, shown: Redemption<'_>, now: i64) -> Option<Grant> {
        let mut inner = self.inner.lock();
        let entry = inner.codes.get_mut(code)?;
        if std::mem::replace(&mut entry.used, true) {
            self.revoked.claim(&entry.grant.id, now);
            return None;
        }
        let grant = &entry.grant;
        let ok = now < entry.expires
            && grant.client_id == shown.client_id
            && grant.redirect_uri == shown.redirect_uri
            && pkce::matches(&grant.code_challenge, shown.code_verifier);
        ok.then(|| grant.clone())
    }

    /// Whether the tokens of this grant were withdrawn because its code was used twice.
    pub fn is_revoked(&self, grant_id: &str) -> bool {
        self.revoked.holds(grant_id)
    }
}

impl Inner {
    fn forget(&mut self, now: i64) {
        while let Some((expires, _)) = self.order.front() {
            if *expires > now && self.order.len() < CAPACITY {
                return;
            }
            if let Some((_, code)) = self.order.pop_front() {
                self.codes.remove(&code);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const URI: &str = "https://auth.example.com/oauth2/callback";

    fn grant() -> Grant {
        Grant {
            id: "grant".into(),
            client_id: "pomerium".into(),
            redirect_uri: URI.into(),
            code_challenge: CHALLENGE.into(),
            nonce: None,
            scope: "openid".into(),
            email: "user@example.com".into(),
            fingerprint: "f".into(),
            auth_time: 1,
        }
    }

    fn good() -> Redemption<'static> {
        Redemption {
            client_id: "pomerium",
            redirect_uri: URI,
            code_verifier: VERIFIER,
        }
    }

    #[test]
    fn a_code_is_good_once_and_a_replay_ends_the_grant() {
        let store = CodeStore::default();
        let code = store.issue(grant(), 100);
        assert_eq!(store.redeem(&code, good(), 159), Some(grant()));
        assert!(!store.is_revoked("grant"));
        assert_eq!(store.redeem(&code, good(), 159), None);
        assert!(store.is_revoked("grant"));
    }

    #[test]
    fn a_code_is_bound_to_client_uri_verifier_and_a_minute() {
        let cases: [(&str, Redemption<'_>, i64); 5] = [
            (
                "other client",
                Redemption {
                    client_id: "other",
                    ..good()
                },
                100,
            ),
            (
                "other uri",
                Redemption {
                    redirect_uri: "https://auth.example.com/oauth2/callback/",
                    ..good()
                },
                100,
            ),
            (
                "wrong verifier",
                Redemption {
                    code_verifier: CHALLENGE,
                    ..good()
                },
                100,
            ),
            (
                "no verifier",
                Redemption {
                    code_verifier: "",
                    ..good()
                },
                100,
            ),
            ("late", good(), 160),
        ];
        for (name, shown, now) in cases {
            let store = CodeStore::default();
            let code = store.issue(grant(), 100);
            assert_eq!(store.redeem(&code, shown, now), None, "{name}");
            assert_eq!(
                store.redeem(&code, good(), 100),
                None,
                "{name}: the failed try used it up"
            );
        }
    }

    #[test]
    fn unknown_and_truncated_codes_are_refused() {
        let store = CodeStore::default();
        let code = store.issue(grant(), 100);
        assert_eq!(store.redeem("", good(), 100), None);
        assert_eq!(store.redeem(&code[..code.len() - 1], good(), 100), None);
        assert!(store.redeem(&code, good(), 100).is_some());
    }
}
