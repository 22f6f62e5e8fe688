//! The provider's public keys: kept, and fetched again when a token names one that is not among them.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::clock::Clock;
use pomerium_crypto::jwt::{JwkSet, JwtError};

use super::fetch;
use crate::flight::Flight;
use crate::{HttpClient, IdentityError};

/// A token may name an unknown key over and over; the provider is asked for its keys no more than
/// [`BURST`] times in this many seconds. More than once, because a rotation may follow another fetch closely.
const BURST_SECONDS: i64 = 10;
const BURST: usize = 3;
/// Keys the provider has withdrawn are forgotten after this.
const LONGEST_SECONDS_KEPT: i64 = 60 * 60;

pub(super) struct Keys {
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    flight: Flight<Arc<JwkSet>>,
}

#[derive(Default)]
struct State {
    set: Option<Arc<JwkSet>>,
    fetched_at: Timestamp,
    /// When it was asked last, latest first.
    asked: [Option<Timestamp>; BURST],
}

impl State {
    /// A clock that was set back does not shut the provider out: a time from later than now does not count.
    fn may_ask(&self, now: Timestamp) -> bool {
        self.asked[BURST - 1].is_none_or(|at| !(0..BURST_SECONDS).contains(&seconds_between(at, now)))
    }

    fn note_asked(&mut self, now: Timestamp) {
        self.asked.rotate_right(1);
        self.asked[0] = Some(now);
    }
}

impl Keys {
    pub(super) fn new(http: Arc<dyn HttpClient>, clock: Arc<dyn Clock>) -> Self {
        Self {
            http,
            clock,
            state: Mutex::new(State::default()),
            flight: Flight::new(),
        }
    }

    /// Runs `verify` with the keys; once more with fresh ones, if it misses a key or its signature does not
    /// fit (keys without names may have been rotated) and the provider was not asked too often of late.
    pub(super) async fn verify<T>(
        &self,
        url: &str,
        verify: impl Fn(&JwkSet) -> Result<T, JwtError>,
    ) -> Result<T, IdentityError> {
        let set = self.current(url).await?;
        match verify(&set) {
            Err(error @ (JwtError::UnknownKey | JwtError::Signature)) => {
                if !self.may_ask() {
                    return Err(IdentityError::IdToken(error));
                }
                let fresh = self.fetch(url).await?;
                verify(&fresh).map_err(IdentityError::IdToken)
            }
            other => other.map_err(IdentityError::IdToken),
        }
    }

    async fn current(&self, url: &str) -> Result<Arc<JwkSet>, IdentityError> {
        let (known, aged) = {
            let state = self.state.lock();
            let age = seconds_between(state.fetched_at, self.clock.now());
            (state.set.clone(), age > LONGEST_SECONDS_KEPT)
        };
        match known {
            Some(set) if !(aged && self.may_ask()) => Ok(set),
            Some(set) => self.fetch(url).await.or_else(|error| {
                tracing::warn!(%error, "the identity provider's keys cannot be renewed; the old ones stay");
                Ok(set)
            }),
            None => self.fetch(url).await,
        }
    }

    fn may_ask(&self) -> bool {
        self.state.lock().may_ask(self.clock.now())
    }

    async fn fetch(&self, url: &str) -> Result<Arc<JwkSet>, IdentityError> {
        let now = self.clock.now();
        let start = || {
            self.state.lock().note_asked(now);
            read(self.http.clone(), url.to_owned())
        };
        let set = self.flight.join(start).await?;
        let mut state = self.state.lock();
        state.set = Some(set.clone());
        state.fetched_at = now;
        drop(state);
        Ok(set)
    }
}

fn seconds_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.as_second() - earlier.as_second()
}

fn read(http: Arc<dyn HttpClient>, url: String) -> BoxFuture<'static, Result<Arc<JwkSet>, IdentityError>> {
    async move {
        let document = fetch::get_document(&*http, &url).await?;
        let set = JwkSet::parse(&document).map_err(|error| fetch::bad_answer(&url, error))?;
        if set.is_empty() {
            return Err(fetch::bad_answer(&url, "there is no usable key in it"));
        }
        Ok(Arc::new(set))
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn three_questions_in_ten_seconds_and_a_clock_that_goes_back() {
        let mut state = State::default();
        for second in [100, 101, 102] {
            assert!(state.may_ask(at(second)));
            state.note_asked(at(second));
        }
        assert!(!state.may_ask(at(109)));
        assert!(
            state.may_ask(at(110)),
            "the first of the three is ten seconds ago"
        );
        state.note_asked(at(110));
        assert!(!state.may_ask(at(110)));
        assert!(state.may_ask(at(50)), "the clock was set back");
    }
}
