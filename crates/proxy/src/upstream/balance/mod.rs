//! Which host a request gets (spec proxy.md 6.4).
//!
//! A [`View`] is what choosing needs, worked out when hosts or their health change: the order of turns,
//! with weights, of the hosts in use, and for the hashing policies a table over all hosts, so that a
//! host that comes or goes moves few keys. Choosing takes no lock. Process-wide, like the hosts.

mod maglev;
mod ring;
mod schedule;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pomerium_config::settings::LoadBalancing;
use xxhash_rust::xxh64::xxh64;

use super::host::Host;
use maglev::Maglev;
use ring::Ring;

/// The hosts of a cluster with the order of their turns.
#[derive(Debug)]
pub struct View {
    /// All hosts, healthy or not.
    pub hosts: Arc<[Arc<Host>]>,
    policy: LoadBalancing,
    table: Table,
    /// Indexes of the hosts in use, each as often as its weight says. Empty: none may be used.
    turns: Box<[u32]>,
    /// So few are healthy that health is ignored.
    panic: bool,
    next: AtomicUsize,
}

#[derive(Debug, Clone)]
enum Table {
    None,
    Ring(Arc<Ring>),
    Maglev(Arc<Maglev>),
}

impl View {
    /// Works out everything, tables included.
    pub(super) fn new(hosts: Arc<[Arc<Host>]>, policy: LoadBalancing, panic_threshold: u8) -> Self {
        let table = match policy {
            _ if hosts.len() < 2 => Table::None,
            LoadBalancing::RingHash => Table::Ring(Arc::new(Ring::new(&hosts))),
            LoadBalancing::Maglev => Table::Maglev(Arc::new(Maglev::new(&hosts))),
            LoadBalancing::RoundRobin | LoadBalancing::LeastRequest | LoadBalancing::Random => Table::None,
        };
        Self::with(hosts, policy, panic_threshold, table)
    }

    /// The same hosts after a change of their health.
    pub(super) fn renewed(&self, policy: LoadBalancing, panic_threshold: u8) -> Self {
        Self::with(self.hosts.clone(), policy, panic_threshold, self.table.clone())
    }

    fn with(hosts: Arc<[Arc<Host>]>, policy: LoadBalancing, panic_threshold: u8, table: Table) -> Self {
        let usable = hosts.iter().filter(|host| host.is_usable()).count();
        let panic = usable * 100 < usize::from(panic_threshold) * hosts.len();
        let in_use: Vec<(u32, u32)> = (0..)
            .zip(hosts.iter())
            .filter(|(_, host)| panic || host.is_usable())
            .map(|(index, host)| (index, host.weight))
            .collect();
        Self {
            turns: schedule::turns(&in_use),
            hosts,
            policy,
            table,
            panic,
            next: AtomicUsize::new(0),
        }
    }

    /// The host for a request with this `key` (only the hashing policies look at it), none of `tried`.
    ///
    /// `None` when no host may be used, or all were tried.
    pub(crate) fn choose(&self, key: u64, tried: &[u64]) -> Option<&Arc<Host>> {
        if self.turns.is_empty() {
            return None;
        }
        if let [only] = &*self.hosts {
            return (tried.is_empty()).then_some(only);
        }
        match (&self.table, self.policy) {
            (Table::Ring(ring), _) => self.first(ring.walk(key), tried),
            (Table::Maglev(maglev), _) => self.first(maglev.walk(key), tried),
            (Table::None, LoadBalancing::LeastRequest) => self.least(tried),
            (Table::None, LoadBalancing::Random) => self.walk_turns(rand::random::<u32>() as usize, tried),
            (Table::None, _) => self.walk_turns(self.next.fetch_add(1, Ordering::Relaxed), tried),
        }
    }

    fn first(&self, order: impl Iterator<Item = u32>, tried: &[u64]) -> Option<&Arc<Host>> {
        order
            .filter_map(|index| self.hosts.get(index as usize))
            .find(|host| (self.panic || host.is_usable()) && !tried.contains(&host.id))
    }

    fn turn(&self, at: usize) -> Option<&Arc<Host>> {
        let index = self.turns.get(at % self.turns.len())?;
        self.hosts.get(*index as usize)
    }

    fn walk_turns(&self, from: usize, tried: &[u64]) -> Option<&Arc<Host>> {
        (0..self.turns.len())
            .filter_map(|step| self.turn(from.wrapping_add(step)))
            .find(|host| !tried.contains(&host.id))
    }

    /// The less busy of two, drawn by weight; busy is measured against the weight too.
    fn least(&self, tried: &[u64]) -> Option<&Arc<Host>> {
        let draw = rand::random::<u64>();
        let (first, second) = ((draw >> 32) as usize, (draw & 0xffff_ffff) as usize);
        let (first, second) = (self.walk_turns(first, tried)?, self.walk_turns(second, tried)?);
        let busy = |host: &Host| u64::from(host.running());
        let second_is_less = busy(second) * u64::from(first.weight) < busy(first) * u64::from(second.weight);
        Some(if second_is_less { second } else { first })
    }
}

/// The key of a text for the hashing policies.
pub(crate) fn key_of(text: &[u8]) -> u64 {
    xxh64(text, 0)
}

#[cfg(test)]
mod tests;
