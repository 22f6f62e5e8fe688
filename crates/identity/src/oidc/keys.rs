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

/// Anybody can make tokens that name an unknown key; the provider is asked no more often than this.
const LEAST_SECONDS_BETWEEN: i64 = 10;
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
    asked_at: Option<Timestamp>,
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
    /// fit (keys without names may have been rotated) and the last fetch is long enough ago.
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
        let asked_at = self.state.lock().asked_at;
        asked_at.is_none_or(|at| seconds_between(at, self.clock.now()) >= LEAST_SECONDS_BETWEEN)
    }

    async fn fetch(&self, url: &str) -> Result<Arc<JwkSet>, IdentityError> {
        let now = self.clock.now();
        let start = || {
            self.state.lock().asked_at = Some(now);
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
