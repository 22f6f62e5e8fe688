//! Addresses and networks. IPv4 written as IPv6 (`::ffff:192.0.2.1`) is IPv4 on both sides.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// A list of networks.
#[derive(Debug)]
pub(crate) struct Networks(pub(crate) Box<[IpNet]>);

impl Networks {
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Reads an address or a CIDR. Host bits are masked away; no abbreviated forms, leading zeros or zones.
/// Errors with what is wrong about it.
pub(crate) fn parse(text: &str) -> Result<IpNet, &'static str> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "not an IP address or CIDR")?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(bits), |length| prefix_length(length, bits))?;
    let network = match (address, address.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(v4)) if length >= 96 => Ipv4Net::new(v4, length - 96).map(IpNet::V4),
        (address, _) => IpNet::new(address, length),
    };
    network
        .map(|network| network.trunc())
        .map_err(|_| "prefix too long for the address")
}

fn prefix_length(text: &str, bits: u8) -> Result<u8, &'static str> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    match text.parse::<u8>() {
        Ok(length) if plain && length <= bits => Ok(length),
        Ok(_) if plain => Err("prefix too long for the address"),
        _ => Err("the part after `/` is not a prefix length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(network: &str, address: &str) -> bool {
        Networks(Box::new([parse(network).unwrap()])).contain(address.parse().unwrap())
    }

    #[test]
    fn networks_contain_their_addresses() {
        assert!(inside("10.1.2.3/8", "10.200.0.1"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("203.0.113.7", "203.0.113.7"));
        assert!(inside("2001:db8::/32", "2001:db8:1::5"));
        assert!(inside("0.0.0.0/0", "192.0.2.1"));
        assert!(!inside("::/0", "192.0.2.1"));
    }

    #[test]
    fn mapped_addresses_are_v4_on_both_sides() {
        assert!(inside("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(inside("::ffff:10.0.0.0/104", "10.9.9.9"));
        assert!(inside("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!inside("::ffff:10.0.0.0/104", "11.0.0.1"));
    }

    #[test]
    fn odd_forms_are_refused() {
        for text in [
            "",
            "10/8",
            "10.0.0.0/33",
            "::/129",
            "010.0.0.1",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "fe80::1%eth0",
            "localhost",
            "10.0.0.0/",
            " 10.0.0.1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
