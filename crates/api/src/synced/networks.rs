//! Which records are about the network of an address: the longest prefix wins (spec databroker.md 6.3).
//!
//! A hash map by prefix, asked once for each prefix length in use, longest first: lock-free to read, and a
//! change touches one entry, however many there are. IPv4 written as IPv6 is IPv4.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipnet::{IpNet, Ipv4Net};

use super::structs::StructEntry;

/// Prefix lengths: 0 to 32, then 0 to 128.
const LENGTHS: usize = 33 + 129;

/// Records by network. Written by one at a time.
pub(super) struct Networks {
    records: papaya::HashMap<IpNet, Arc<[Arc<StructEntry>]>, foldhash::fast::RandomState>,
    /// How many networks of each length there are.
    lengths: [AtomicUsize; LENGTHS],
}

impl Networks {
    pub(super) fn new() -> Self {
        Self {
            records: papaya::HashMap::with_hasher(foldhash::fast::RandomState::default()),
            lengths: std::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }

    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        !self.records.pin().is_empty()
    }

    /// The record of the smallest network around `address`; of several, the one whose id sorts first.
    pub(super) fn find(&self, address: IpAddr) -> Option<Arc<StructEntry>> {
        let address = address.to_canonical();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let records = self.records.pin();
        (0..=longest)
            .rev()
            .filter(|length| self.lengths[slot(address, *length)].load(Ordering::Acquire) > 0)
            .find_map(|length| {
                let network = IpNet::new(address, length).ok()?.trunc();
                records.get(&network)?.first().cloned()
            })
    }

    /// Puts `new` in the place of `old`; each may be nothing, or about no network.
    pub(super) fn replace(&self, old: Option<&StructEntry>, new: Option<&Arc<StructEntry>>) {
        let former = old.and_then(|entry| entry.network);
        let next = new.and_then(|entry| entry.network);
        let id = old.map_or("", |entry| &entry.id);
        // The new place first: a record that moves is never nowhere.
        if let (Some(network), Some(entry)) = (next, new) {
            self.change(network, &entry.id, Some(entry));
        }
        if let Some(network) = former.filter(|network| Some(*network) != next) {
            self.change(network, id, None);
        }
    }

    fn change(&self, network: IpNet, id: &str, new: Option<&Arc<StructEntry>>) {
        let records = self.records.pin();
        let known = records.get(&network);
        let others = known.iter().flat_map(|entries| entries.iter());
        let mut entries: Vec<Arc<StructEntry>> = others.filter(|entry| entry.id != id).cloned().collect();
        if let Some(new) = new {
            let at = entries.partition_point(|entry| entry.id < new.id);
            entries.insert(at, Arc::clone(new));
        }
        let count = &self.lengths[slot(network.addr(), network.prefix_len())];
        if entries.is_empty() {
            if records.remove(&network).is_some() {
                count.fetch_sub(1, Ordering::Release);
            }
        } else if records.insert(network, entries.into()).is_none() {
            count.fetch_add(1, Ordering::Release);
        }
    }
}

fn slot(address: IpAddr, length: u8) -> usize {
    if address.is_ipv4() {
        usize::from(length)
    } else {
        33 + usize::from(length)
    }
}

/// Reads a CIDR, or an address as the network of itself. None for anything else.
pub(super) fn parse(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    Some(canonical(network).trunc())
}

fn canonical(network: IpNet) -> IpNet {
    let mapped = |address: Ipv6Addr| address.to_ipv4_mapped();
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => mapped(v6.addr())
            .and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96).ok())
            .map_or(network, IpNet::V4),
        network => network,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(id: &str, cidr: &str) -> Arc<StructEntry> {
        let data = json!({"$index": {"cidr": cidr}});
        Arc::new(StructEntry::new(id, (1, 1), data, 0))
    }

    fn found(networks: &Networks, address: &str) -> Option<String> {
        networks
            .find(address.parse().unwrap())
            .map(|entry| entry.id.clone())
    }

    #[test]
    fn the_longest_prefix_wins() {
        let networks = Networks::new();
        let all = [
            entry("any", "0.0.0.0/0"),
            entry("wide", "10.0.0.0/8"),
            entry("narrow", "10.1.2.3/16"),
            entry("host", "10.1.0.1"),
            entry("mapped", "::ffff:192.0.2.0/120"),
            entry("six", "2001:db8::/32"),
            entry("none", "not a network"),
        ];
        for entry in &all {
            networks.replace(None, Some(entry));
        }
        for (address, id) in [
            ("10.1.0.1", Some("host")),
            ("10.1.0.2", Some("narrow")),
            ("::ffff:10.1.0.2", Some("narrow")),
            ("10.2.0.1", Some("wide")),
            ("192.0.2.77", Some("mapped")),
            ("203.0.113.1", Some("any")),
            ("2001:db8::1", Some("six")),
            ("2001:db9::1", None),
        ] {
            assert_eq!(found(&networks, address).as_deref(), id, "{address}");
        }
    }

    #[test]
    fn records_move_and_go() {
        let networks = Networks::new();
        let (old, new) = (entry("a", "10.0.0.0/8"), entry("a", "192.0.2.0/24"));
        networks.replace(None, Some(&old));
        networks.replace(Some(&old), Some(&new));
        assert_eq!(found(&networks, "10.0.0.1"), None);
        assert_eq!(found(&networks, "192.0.2.1").as_deref(), Some("a"));
        let other = entry("0", "192.0.2.0/24");
        networks.replace(None, Some(&other));
        assert_eq!(found(&networks, "192.0.2.1").as_deref(), Some("0"));
        networks.replace(Some(&other), None);
        assert_eq!(found(&networks, "192.0.2.1").as_deref(), Some("a"));
        networks.replace(Some(&new), None);
        assert_eq!(found(&networks, "192.0.2.1"), None);
        assert!(
            networks
                .lengths
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 0)
        );
    }
}
