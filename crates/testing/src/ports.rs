//! TCP ports that no other test is using.
//!
//! The server binds with SO_REUSEPORT, so two servers on one port would not fail but share its traffic.
//! A lease therefore holds a file lock for as long as it lives, across processes; ports lie below the
//! range that the system hands out by itself.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that is ours until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Leases a free port on 127.0.0.1.
///
/// # Errors
/// The folder of lock files cannot be written, or every port is taken.
pub fn lease() -> Result<Port> {
    let folder = std::env::temp_dir().join("pomerium-test-ports");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let spread = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = FIRST + (spread.wrapping_mul(37).wrapping_add(step)) % COUNT;
        let lock = File::create(folder.join(number.to_string())).context("cannot make a port lock")?;
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return Ok(Port { number, _lock: lock });
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_port_is_not_leased_twice_and_can_be_bound() {
        let leases: Vec<Port> = (0..50).map(|_| lease().unwrap()).collect();
        let mut numbers: Vec<u16> = leases.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        assert!(TcpListener::bind(("127.0.0.1", numbers[0])).is_ok());
    }
}
