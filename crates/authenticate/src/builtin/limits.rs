//! How often a password may be tried: per user name and per client address.

use std::net::IpAddr;
use std::time::Duration;

use pomerium_web::rate::{self, Limiter};

/// The limits of the sign-in form.
#[derive(Debug)]
pub struct SignInLimits {
    by_name: Limiter,
    by_address: Limiter,
}

impl Default for SignInLimits {
    /// A name: 10 tries, then one in 15 s. An address: 20 tries, then one in 3 s.
    fn default() -> Self {
        Self {
            by_name: Limiter::new(1, Duration::from_secs(15), 10),
            by_address: Limiter::new(1, Duration::from_secs(3), 20),
        }
    }
}

impl SignInLimits {
    /// Takes one try for `name` (already in its canonical form) from `address`. `Err` holds the whole seconds
    /// to wait, at least one.
    pub fn take(&self, name: &str, address: IpAddr, now_ms: i64) -> Result<(), i64> {
        let now_ns = u64::try_from(now_ms).unwrap_or(0).saturating_mul(1_000_000);
        let wait = |wait| i64::from(rate::retry_after(wait));
        self.by_address
            .take(rate::client(address), now_ns)
            .map_err(wait)?;
        self.by_name.take(name, now_ns).map_err(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

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
}
