//! Ring hash: every host has points on a ring, a key goes to the next point.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::upstream::host::Host;

/// Fewest points of all hosts together.
const POINTS: u64 = 1024;
/// Most points of one host.
const MOST: u64 = 8192;

/// Points in order.
#[derive(Debug)]
pub(super) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    pub(super) fn new(hosts: &[Arc<Host>]) -> Self {
        let total: u64 = hosts
            .iter()
            .map(|host| u64::from(host.weight))
            .sum::<u64>()
            .max(1);
        let count = hosts.len() as u64;
        let mut points = Vec::new();
        for (index, host) in (0..).zip(hosts) {
            let label = host.label();
            // As many points as if all weighed the same, in proportion to the weight.
            let share = POINTS.max(count * 16) * u64::from(host.weight);
            for point in 0..share.div_ceil(total).clamp(1, MOST) {
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
