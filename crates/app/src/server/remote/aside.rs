//! Databrokers that are there and do not serve, for instance because their store is gone: others are asked first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long others are asked first, unless it is known before that one serves again.
const LONG: Duration = Duration::from_secs(30);

/// Those that are set aside.
#[derive(Default)]
pub struct Aside(Mutex<HashMap<SocketAddr, Time>>);

/// From when on without a break, and until when.
struct Time {
    since: Instant,
    until: Instant,
}

impl Aside {
    /// Others are asked before the one at `address` for a while.
    pub fn put(&self, address: SocketAddr, why: &str) {
        let now = Instant::now();
        let until = now + LONG;
        let mut times = self.0.lock();
        times.retain(|_, time| time.until > now);
        let known = times.get_mut(&address).map(|time| time.until = until);
        if known.is_none() {
            times.insert(address, Time { since: now, until });
            tracing::warn!(%address, why, "databroker: it does not serve; others are asked first, where there are any");
        }
    }

    /// The one at `address` serves.
    pub fn take_back(&self, address: SocketAddr) {
        if self.0.lock().remove(&address).is_some() {
            tracing::info!(%address, "databroker: it serves again");
        }
    }

    /// Who is set aside at this moment. The first is the one of which nothing good is known for longest, so that it may
    /// serve by now; it stays the first for as long as it does not.
    pub fn now(&self) -> Vec<SocketAddr> {
        let now = Instant::now();
        let times = self.0.lock();
        let mut aside: Vec<_> = times.iter().filter(|(_, time)| time.until > now).collect();
        aside.sort_unstable_by_key(|(address, time)| (time.since, **address));
        aside.into_iter().map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_lasts_until_one_serves_or_for_a_while() {
        let aside = Aside::default();
        let (one, other) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:1".parse().unwrap());
        aside.put(other, "a test");
        tokio::time::advance(LONG / 2).await;
        aside.put(one, "a test");
        aside.put(other, "once more");
        assert_eq!(aside.now(), [other, one], "the first stays the first");
        aside.take_back(other);
        assert_eq!(aside.now(), [one]);
        tokio::time::advance(LONG).await;
        assert_eq!(aside.now(), []);
    }
}
