//! The loop breaker: notices when the same sign-in comes back again and again.
//!
//! Two loops exist. When the *route* loses its cookie, the authenticate service sees one and the same
//! destination again within seconds; a short-lived sealed cookie on the authenticate host counts these. When the
//! *authenticate host* loses its own cookie, that memory is lost as well; then the counter in the login state
//! and in the re-signed URL tells ([`super::state::LoginState::round`]).

use pomerium_crypto::{encoding, mac};
use serde::{Deserialize, Serialize};

/// Seconds within which rounds count as one loop.
pub const WINDOW: i64 = 60;
/// Rounds that may happen; the next one shows a page instead.
pub const ALLOWED: u8 = 2;
/// Destinations remembered per browser.
const MAX: usize = 8;

/// The destinations a browser was sent to of late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds(Vec<Round>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    #[serde(rename = "d")]
    destination: String,
    #[serde(rename = "c")]
    count: u8,
    #[serde(rename = "t")]
    first: i64,
}

impl Rounds {
    /// Counts one more round to `destination`. False when that is one too many.
    pub fn count(&mut self, destination: &str, now: i64) -> bool {
        self.0.retain(|round| now - round.first < WINDOW);
        let key = key(destination);
        if let Some(round) = self.0.iter_mut().find(|round| round.destination == key) {
            round.count = round.count.saturating_add(1);
            return round.count <= ALLOWED;
        }
        let surplus = (self.0.len() + 1).saturating_sub(MAX);
        self.0.drain(..surplus);
        self.0.push(Round {
            destination: key,
            count: 1,
            first: now,
        });
        true
    }
}

/// A short name for a URL; the cookie is sealed, so nobody outside gets to choose collisions.
fn key(destination: &str) -> String {
    encoding::base64url_encode(&mac::hmac_sha256(b"pomerium login rounds", destination.as_bytes())[..9])
}

/// What keeps a sign-in from holding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The browser does not send our cookie back.
    CookieRefused,
    /// The cookie is set for a domain that the host does not lie in.
    CookieDomain,
    /// The cookie is not sent because the navigation came from another site.
    SameSite,
    /// The session is over as soon as it begins: two clocks differ.
    Clock,
    /// The session is not in the store.
    SessionLost,
    /// The policy of the application asks for more than a sign-in that was just made.
    NotEnough,
}

/// Whether a cookie with this `Domain` attribute reaches `host` (no port).
pub fn domain_covers(cookie_domain: &str, host: &str) -> bool {
    let domain = cookie_domain.trim_start_matches('.').to_ascii_lowercase();
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_round_within_a_minute_is_one_too_many() {
        let mut rounds = Rounds::default();
        assert!(rounds.count("https://app.example.com/", 100));
        assert!(rounds.count("https://app.example.com/", 102));
        assert!(!rounds.count("https://app.example.com/", 104));
        assert!(!rounds.count("https://app.example.com/", 106));
        assert!(
            rounds.count("https://app.example.com/other", 106),
            "another page is another matter"
        );
        assert!(
            rounds.count("https://app.example.com/", 100 + WINDOW),
            "a minute later it starts afresh"
        );
    }

    #[test]
    fn many_tabs_are_not_a_loop_and_the_cookie_stays_small() {
        let mut rounds = Rounds::default();
        for tab in 0..100 {
            assert!(rounds.count(&format!("https://app.example.com/{tab}"), 100));
        }
        assert_eq!(rounds.0.len(), MAX);
    }

    #[test]
    fn cookie_domains() {
        for (domain, host, covered) in [
            ("example.com", "example.com", true),
            (".example.com", "app.example.com", true),
            ("Example.com", "app.example.com", true),
            ("example.com", "app.example.org", false),
            ("example.com", "notexample.com", false),
            ("app.example.com", "example.com", false),
        ] {
            assert_eq!(domain_covers(domain, host), covered, "{domain} {host}");
        }
    }
}
