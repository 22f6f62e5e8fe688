//! Rate limits of routes (`rate_limit`): which bucket a request counts in.
//!
//! Buckets belong to the process, not to a worker or a snapshot: a reload that does not change a limit does
//! not forgive anybody. A route without a limit holds nothing and asks nothing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pomerium_authorize::Principal;
use pomerium_config::settings::{RateKey, RateLimit};
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::rate::{self, Limiter};
use tokio::time::Instant;

/// The route a limit belongs to, if to one alone; and the limit.
type Limited = (Option<String>, RateLimit);

/// The limiters of the process by what they limit: a route's own, or the one of all other routes.
#[derive(Debug)]
pub(crate) struct Throttles {
    base: Instant,
    known: Mutex<HashMap<Limited, Weak<Limiter>>>,
}

impl Default for Throttles {
    fn default() -> Self {
        Self {
            base: Instant::now(),
            known: Mutex::default(),
        }
    }
}

impl Throttles {
    /// The limit of the route `id`: its own, or the `global` one, whose buckets it shares with all other routes
    /// under it.
    pub(crate) fn of_route(
        &self,
        id: &str,
        own: Option<RateLimit>,
        global: Option<RateLimit>,
    ) -> Option<Throttle> {
        let settings = own.or(global)?;
        let scope = (own.is_some() && own != global).then(|| id.to_owned());
        let mut known = self.known.lock();
        known.retain(|_, limiter| limiter.strong_count() > 0);
        let slot = known.entry((scope, settings)).or_default();
        let limiter = slot.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Limiter::new(settings.requests, settings.per, settings.burst));
            *slot = Arc::downgrade(&made);
            made
        });
        Some(Throttle {
            key: settings.key,
            route: id.into(),
            base: self.base,
            limiter,
        })
    }
}

/// The rate limit of one route.
#[derive(Debug)]
pub(crate) struct Throttle {
    key: RateKey,
    route: Box<str>,
    base: Instant,
    limiter: Arc<Limiter>,
}

impl Throttle {
    /// Counts a request before anything else is known of it. `Err` holds how long to wait.
    pub(crate) fn on_arrival(&self, request: &CanonicalRequest, now: Instant) -> Result<(), Duration> {
        match self.key {
            RateKey::Client => self.take((0, rate::client(request.client_ip)), now),
            RateKey::Route => self.take((1, &self.route), now),
            RateKey::User => Ok(()),
        }
    }

    /// Counts a request of somebody, where users are counted; of nobody: by the client address.
    pub(crate) fn on_identity(
        &self,
        request: &CanonicalRequest,
        principal: Option<&Principal>,
        now: Instant,
    ) -> Result<(), Duration> {
        match (self.key, principal) {
            (RateKey::User, Some(principal)) if !principal.user_id.is_empty() => {
                self.take((2, &principal.user_id), now)
            }
            (RateKey::User, Some(principal)) => self.take((3, &principal.session_id), now),
            (RateKey::User, None) => self.take((0, rate::client(request.client_ip)), now),
            _ => Ok(()),
        }
    }

    fn take(&self, key: impl std::hash::Hash, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.base).as_nanos();
        self.limiter.take(key, u64::try_from(now).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u32, key: RateKey) -> RateLimit {
        RateLimit {
            requests,
            per: Duration::from_secs(60),
            burst: 1,
            key,
        }
    }

    #[test]
    fn buckets_outlive_a_reload_unless_their_settings_change() {
        let (throttles, now) = (Throttles::default(), Instant::now());
        let own = Some(limit(1, RateKey::Route));
        let first = throttles.of_route("a", own, None).unwrap();
        assert_eq!(first.take("k", now), Ok(()));
        let again = throttles.of_route("a", own, None).unwrap();
        drop(first);
        assert!(again.take("k", now).is_err(), "the same bucket");
        let other = throttles.of_route("b", own, None).unwrap();
        assert_eq!(other.take("k", now), Ok(()), "another route has its own");
        let changed = throttles
            .of_route("a", Some(limit(2, RateKey::Route)), None)
            .unwrap();
        assert_eq!(changed.take("k", now), Ok(()));
    }

    #[test]
    fn routes_without_a_limit_of_their_own_share_the_global_one() {
        let (throttles, now) = (Throttles::default(), Instant::now());
        let global = Some(limit(1, RateKey::Client));
        let one = throttles.of_route("a", global, global).unwrap();
        let two = throttles.of_route("b", None, global).unwrap();
        assert_eq!(one.take("k", now), Ok(()));
        assert!(two.take("k", now).is_err());
        assert!(throttles.of_route("c", None, None).is_none());
    }
}
