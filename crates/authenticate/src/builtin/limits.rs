//! How often a password may be tried: per user name and per client address.
//!
//! A cell-rate limiter (GCRA) over a fixed table. Keys fall into a bucket by a hash seeded at start, so the
//! memory is bounded by construction, no stream of invented names can push a real one out, and nobody outside
//! can aim at the bucket of somebody else.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};

const BUCKETS: usize = 8192;

/// One limit: `burst` tries at once, then one per `interval_ms`.
#[derive(Debug)]
pub struct Limit {
    interval_ms: i64,
    tolerance_ms: i64,
    seed: RandomState,
    /// Theoretical arrival time of the next try, Unix milliseconds.
    next: Box<[AtomicI64]>,
}

impl Limit {
    /// `burst` must be at least 1.
    pub fn new(burst: i64, interval_ms: i64) -> Self {
        Self {
            interval_ms,
            tolerance_ms: (burst - 1) * interval_ms,
            seed: RandomState::new(),
            next: (0..BUCKETS).map(|_| AtomicI64::new(i64::MIN / 2)).collect(),
        }
    }

    /// Takes one try of `key`. `Err` holds the milliseconds to wait.
    pub fn take(&self, key: &str, now_ms: i64) -> Result<(), i64> {
        #[allow(clippy::cast_possible_truncation, reason = "a bucket index")]
        let cell = &self.next[self.seed.hash_one(key) as usize % BUCKETS];
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let due = seen.max(now_ms);
            if due - now_ms > self.tolerance_ms {
                return Err(due - now_ms - self.tolerance_ms);
            }
            match cell.compare_exchange_weak(
                seen,
                due + self.interval_ms,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(current) => seen = current,
            }
        }
    }
}

/// The limits of the sign-in form.
#[derive(Debug)]
pub struct SignInLimits {
    by_name: Limit,
    by_address: Limit,
}

impl Default for SignInLimits {
    /// A name: 10 tries, then one in 15 s. An address: 20 tries, then one in 3 s.
    fn default() -> Self {
        Self {
            by_name: Limit::new(10, 15_000),
            by_address: Limit::new(20, 3_000),
        }
    }
}

impl SignInLimits {
    /// Takes one try for `name` (already in its canonical form) from `address`. `Err` holds the whole seconds
    /// to wait, at least one.
    pub fn take(&self, name: &str, address: IpAddr, now_ms: i64) -> Result<(), i64> {
        let wait = |ms: i64| (ms + 999) / 1000;
        self.by_address
            .take(&address_key(address), now_ms)
            .map_err(wait)?;
        self.by_name.take(name, now_ms).map_err(wait)
    }
}

/// An IPv6 client owns a /64 at the least, so that is what is counted.
fn address_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments()[..4]
            .iter()
            .map(|segment| format!("{segment:x}:"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_burst_then_one_per_interval() {
        let limit = Limit::new(3, 1_000);
        for _ in 0..3 {
            assert_eq!(limit.take("a", 50_000), Ok(()));
        }
        assert_eq!(limit.take("a", 50_000), Err(1_000));
        assert_eq!(limit.take("a", 50_400), Err(600));
        assert_eq!(limit.take("a", 51_000), Ok(()));
        assert_eq!(limit.take("a", 51_000), Err(1_000));
        assert_eq!(
            limit.take("a", 500_000),
            Ok(()),
            "a long rest gives the burst back"
        );
    }

    #[test]
    fn a_name_is_limited_from_whichever_address() {
        let limits = SignInLimits::default();
        for host in 0..10 {
            let address = IpAddr::from([192, 0, 2, host]);
            assert_eq!(limits.take("user@example.com", address, 0), Ok(()));
        }
        assert_eq!(
            limits.take("user@example.com", IpAddr::from([192, 0, 2, 99]), 0),
            Err(15)
        );
        assert_eq!(
            limits.take("other@example.com", IpAddr::from([192, 0, 2, 98]), 0),
            Ok(())
        );
    }

    #[test]
    fn an_address_is_limited_whichever_name_it_tries() {
        let limits = SignInLimits::default();
        for name in 0..20 {
            assert_eq!(limits.take(&format!("user{name}@example.com"), HERE, 0), Ok(()));
        }
        assert!(limits.take("another@example.com", HERE, 0).is_err());
    }

    #[test]
    fn ipv6_counts_by_network_and_mapped_v4_as_v4() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
