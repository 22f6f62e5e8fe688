//! Ring hash: every host has points on a ring, a key goes to the next point.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::upstream::host::Host;

/// Points of the lightest host. The same for any number of hosts, so that one that comes takes keys from
/// all others and moves no other key.
const POINTS: u64 = 512;
/// Most points of one host.
const MOST: u64 = 16 * POINTS;

/// Points in order.
#[derive(Debug)]
pub(super) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    pub(super) fn new(hosts: &[Arc<Host>]) -> Self {
        let lightest = hosts
            .iter()
            .map(|host| u64::from(host.weight))
            .min()
            .unwrap_or(1)
            .max(1);
        let mut points = Vec::new();
        for (index, host) in (0..).zip(hosts) {
            let label = host.label();
            let share = POINTS * u64::from(host.weight) / lightest;
            for point in 0..share.min(MOST) {
                points.push((xxh64(label.as_bytes(), point), index));
            }
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// Hosts in the order in which this key prefers them; a host comes more than once.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        let start = self.0.partition_point(|(point, _)| *point < key);
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index)
    }
}
