//! Those who wait for a connection of a cluster, in the order in which they came. Pure: who may look for what, and who
//! is called when something is freed.
//!
//! There are two orders in one line. Room on a connection is of use to those who wait for its host only; a new
//! connection that the cluster may have is of use to everybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

/// The line of a cluster.
#[derive(Debug, Default)]
pub(super) struct Line {
    next: u64,
    places: BTreeMap<u64, Place>,
    hosts: HashMap<u64, BTreeSet<u64>, foldhash::fast::RandomState>,
}

/// A place in it.
#[derive(Debug)]
struct Place {
    host: u64,
    /// `max_connections` as the one who waits knows it.
    limit: u32,
    /// Called, and has not looked since.
    called: bool,
    bell: Arc<Notify>,
}

impl Line {
    /// Takes the last place.
    pub(super) fn enter(&mut self, host: u64, limit: u32, bell: Arc<Notify>) -> u64 {
        let place = self.next;
        self.next += 1;
        let waiting = Place {
            host,
            limit,
            called: false,
            bell,
        };
        self.places.insert(place, waiting);
        self.hosts.entry(host).or_default().insert(place);
        place
    }

    /// Gives a place up. Whether whoever is behind it at the same host may have relied on it to look.
    pub(super) fn leave(&mut self, place: u64) -> bool {
        let was_first = self.is_first_of_host(place);
        let Some(left) = self.places.remove(&place) else {
            return false;
        };
        if let Some(others) = self.hosts.get_mut(&left.host) {
            others.remove(&place);
            if others.is_empty() {
                self.hosts.remove(&left.host);
            }
        }
        left.called || was_first
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn waits_for(&self, host: u64) -> bool {
        self.hosts.contains_key(&host)
    }

    /// The first who may have a new connection where there are so many. Limits differ after a reload.
    pub(super) fn first_for_a_new_one(&self, connections: u32) -> Option<u64> {
        let mut able = self
            .places
            .iter()
            .filter(|(_, waiting)| connections < waiting.limit);
        able.next().map(|(place, _)| *place)
    }

    pub(super) fn is_first_of_host(&self, place: u64) -> bool {
        let others = self
            .places
            .get(&place)
            .and_then(|waiting| self.hosts.get(&waiting.host));
        others.and_then(|places| places.first().copied()) == Some(place)
    }

    /// The one who was called looks now: what is freed from here on calls anew. Whether it had been called.
    pub(super) fn answer(&mut self, place: u64) -> bool {
        self.places
            .get_mut(&place)
            .is_some_and(|waiting| std::mem::take(&mut waiting.called))
    }

    /// Whether the one at this place is to look, and has not yet.
    #[cfg(test)]
    pub(super) fn is_called(&self, place: u64) -> bool {
        self.places.get(&place).is_some_and(|waiting| waiting.called)
    }

    /// Calls the first who waits for this host and is not called yet. Whether there is one.
    pub(super) fn call_of(&mut self, host: u64) -> bool {
        let Some(places) = self.hosts.get(&host) else {
            return false;
        };
        let next = places
            .iter()
            .find(|place| self.places.get(place).is_some_and(|place| !place.called));
        next.and_then(|next| self.places.get_mut(next))
            .map(Place::call)
            .is_some()
    }

    /// Calls the first of all who is not called yet, if a cluster with so many connections may have one more.
    pub(super) fn call_for_a_new_one(&mut self, connections: u32) {
        let mut places = self.places.values_mut();
        if let Some(next) = places.find(|place| !place.called && connections < place.limit) {
            next.call();
        }
    }
}

impl Place {
    fn call(&mut self) {
        self.called = true;
        self.bell.notify_one();
    }
}
