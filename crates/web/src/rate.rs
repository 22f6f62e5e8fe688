//! How often something may happen: a cell-rate limiter (GCRA) over keys, in bounded memory.
//!
//! A key costs one word while it is limited and nothing once it has rested. When more keys are at work than
//! there is room for, those go first that are nearest to being rested: a stream of invented keys cannot give
//! a key that is over its limit a fresh start.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;

/// Keys are spread over this many tables, so that threads seldom meet.
const SHARDS: usize = 64;
/// Most keys of one table; 65,536 in all.
const ROOM: usize = 1024;

/// One limit: so many at once, then one per interval, for each key.
#[derive(Debug)]
pub struct Limiter {
    interval_ns: u64,
    tolerance_ns: u64,
    seed: RandomState,
    /// By the hash of a key: when its next one would be due if it kept to the interval.
    shards: Box<[Mutex<HashMap<u64, u64>>]>,
}

impl Limiter {
    /// `requests` per `period`, and up to `burst` at once. Zeros count as one.
    pub fn new(requests: u32, period: Duration, burst: u32) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let interval_ns = (period / u64::from(requests.max(1))).max(1);
        Self {
            interval_ns,
            tolerance_ns: interval_ns.saturating_mul(u64::from(burst.max(1)) - 1),
            seed: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes one of `key`. `now_ns` is the time of any clock that starts before the first call and never
    /// goes back. `Err` holds how long to wait.
    pub fn take(&self, key: impl Hash, now_ns: u64) -> Result<(), Duration> {
        let key = self.seed.hash_one(key);
        #[allow(clippy::cast_possible_truncation, reason = "an index")]
        let shard = &self.shards[key as usize % SHARDS];
        let mut due = shard.lock();
        let next = due.get(&key).copied().unwrap_or(0).max(now_ns);
        let ahead = next - now_ns;
        if ahead > self.tolerance_ns {
            return Err(Duration::from_nanos(ahead - self.tolerance_ns));
        }
        if due.len() >= ROOM && !due.contains_key(&key) {
            make_room(&mut due, now_ns);
        }
        due.insert(key, next.saturating_add(self.interval_ns));
        Ok(())
    }
}

/// Forgets every key that has rested; if there is none, the one nearest to it.
fn make_room(due: &mut HashMap<u64, u64>, now_ns: u64) {
    due.retain(|_, next| *next > now_ns);
    if due.len() >= ROOM
        && let Some((&key, _)) = due.iter().min_by_key(|(_, next)| **next)
    {
        due.remove(&key);
    }
}

/// What is counted as one client: an IPv4 address, or an IPv6 /64, which is the least that one client owns.
pub fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Whole seconds for `Retry-After`: rounded up, at least one.
pub fn retry_after(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_then_one_per_interval() {
        let limit = Limiter::new(60, Duration::from_secs(60), 3);
        let now = 50 * SECOND;
        for _ in 0..3 {
            assert_eq!(limit.take("a", now), Ok(()));
        }
        assert_eq!(limit.take("a", now), Err(Duration::from_secs(1)));
        assert_eq!(
            limit.take("a", now + 400_000_000),
            Err(Duration::from_millis(600))
        );
        assert_eq!(limit.take("b", now), Ok(()), "another key has its own");
        assert_eq!(limit.take("a", now + SECOND), Ok(()));
        assert_eq!(limit.take("a", now + SECOND), Err(Duration::from_secs(1)));
        for _ in 0..3 {
            assert_eq!(
                limit.take("a", 500 * SECOND),
                Ok(()),
                "a rest gives the burst back"
            );
        }
        assert!(limit.take("a", 500 * SECOND).is_err());
    }

    #[test]
    fn memory_is_bounded_and_invented_keys_push_out_no_limited_one() {
        let limit = Limiter::new(1, Duration::from_secs(3600), 5);
        for _ in 0..5 {
            limit.take("guilty", 0).unwrap();
        }
        for invented in 0..200_000_u32 {
            limit.take(invented, 1).unwrap();
        }
        let kept: usize = limit.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(kept <= SHARDS * ROOM, "{kept}");
        assert!(limit.take("guilty", 2).is_err());
    }

    #[test]
    fn ipv6_counts_by_network_and_mapped_v4_as_v4() {
        let client = |text: &str| client(text.parse().unwrap());
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        for (wait, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (15_000, 15)] {
            assert_eq!(retry_after(Duration::from_millis(wait)), told, "{wait} ms");
        }
    }
}
