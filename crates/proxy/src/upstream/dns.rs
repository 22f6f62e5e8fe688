//! Names to addresses, with a short memory. Only dialling asks, so nothing here is on the common path.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::UpstreamError;

/// How long an answer is used without asking again (the default refresh rate of spec proxy.md 6.3).
const FRESH: Duration = Duration::from_secs(5);
/// How long an old answer still serves when the resolver fails.
const STALE: Duration = Duration::from_secs(60);
/// Names remembered; beyond it the memory starts over.
const LIMIT: usize = 4096;

/// The resolver of one worker.
#[derive(Debug, Default)]
pub struct Resolver {
    known: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl Resolver {
    /// Addresses of `host`, IPv4 first. `localhost` is 127.0.0.1, then ::1, without asking anyone.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, UpstreamError> {
        if let Ok(literal) = host.parse() {
            return Ok(vec![literal]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if let Some(fresh) = self.remembered(host, FRESH) {
            return Ok(fresh);
        }
        match lookup(host).await {
            Ok(addresses) => {
                self.remember(host, &addresses);
                Ok(addresses)
            }
            Err(source) => self
                .remembered(host, STALE)
                .ok_or_else(|| UpstreamError::NoAddress {
                    host: host.to_owned(),
                    source: Arc::new(source),
                }),
        }
    }

    fn remembered(&self, host: &str, age: Duration) -> Option<Vec<IpAddr>> {
        let known = self.known.lock();
        known
            .get(host)
            .filter(|(at, _)| at.elapsed() < age)
            .map(|(_, addresses)| addresses.clone())
    }

    fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let mut known = self.known.lock();
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(host.to_owned(), (Instant::now(), addresses.to_vec()));
    }
}

async fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = tokio::net::lookup_host((host, 0))
        .await?
        .map(|found| found.ip())
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address records"));
    }
    Ok(addresses)
}
