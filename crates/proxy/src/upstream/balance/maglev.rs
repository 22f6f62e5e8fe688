//! Maglev hashing (Eisenbud et al., NSDI 2016, 3.4): a table that every host fills in turn with the
//! places it prefers.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::upstream::host::Host;

/// Places of the table; a prime, as the permutations need it.
const PLACES: u32 = 65_537;
const EMPTY: u32 = u32::MAX;

/// Which host has which place.
#[derive(Debug)]
pub(super) struct Maglev {
    places: Box<[u32]>,
    hosts: u32,
}

struct Filling {
    index: u32,
    offset: u64,
    skip: u64,
    next: u64,
    /// Turns it may take so far, in units of the greatest weight.
    credit: u64,
    weight: u64,
}

impl Maglev {
    pub(super) fn new(hosts: &[Arc<Host>]) -> Self {
        let mut filling: Vec<_> = (0..)
            .zip(hosts)
            .map(|(index, host)| Filling::new(index, host))
            .collect();
        // The order of turns must not depend on the order of the hosts.
        filling.sort_by_key(|filling| (filling.offset, filling.skip));
        let heaviest = filling.iter().map(|filling| filling.weight).max().unwrap_or(1);
        let mut places = vec![EMPTY; PLACES as usize].into_boxed_slice();
        let mut free = PLACES;
        while free > 0 && !filling.is_empty() {
            for host in &mut filling {
                host.credit += host.weight;
                if host.credit < heaviest || free == 0 {
                    continue;
                }
                host.credit -= heaviest;
                host.take(&mut places);
                free -= 1;
            }
        }
        Self {
            places,
            hosts: u32::try_from(hosts.len()).unwrap_or(EMPTY),
        }
    }

    /// Hosts in the order in which this key prefers them: its place, further places drawn from the key,
    /// then every host.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        const DRAWS: u64 = 32;
        let drawn = (0..DRAWS).map(move |draw| {
            let key = if draw == 0 {
                key
            } else {
                xxh64(&key.to_le_bytes(), draw)
            };
            let place = usize::try_from(key % u64::from(PLACES)).unwrap_or(0);
            self.places.get(place).copied().unwrap_or(EMPTY)
        });
        drawn.chain(0..self.hosts)
    }
}

impl Filling {
    fn new(index: u32, host: &Host) -> Self {
        let label = host.label();
        let size = u64::from(PLACES);
        Self {
            index,
            offset: xxh64(label.as_bytes(), 0) % size,
            skip: xxh64(label.as_bytes(), 1) % (size - 1) + 1,
            next: 0,
            credit: 0,
            weight: u64::from(host.weight),
        }
    }

    /// Takes the free place it likes best.
    fn take(&mut self, places: &mut [u32]) {
        for _ in 0..places.len() {
            let place = (self.offset + self.skip * self.next) % u64::from(PLACES);
            self.next += 1;
            let Some(place) = usize::try_from(place)
                .ok()
                .and_then(|place| places.get_mut(place))
            else {
                return;
            };
            if *place == EMPTY {
                *place = self.index;
                return;
            }
        }
    }
}
