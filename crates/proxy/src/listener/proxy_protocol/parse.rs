//! The two forms of a PROXY protocol header as bytes: no sockets, no waiting.
//!
//! Source: the PROXY protocol specification of haproxy, versions 1 and 2. Strict: what is not written as it
//! says is refused, so that no two readers can find two clients in one header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The shortest header of either version: `PROXY UNKNOWN` with its line end.
pub(super) const SHORTEST: usize = 15;
/// The longest version 1 header, line end included.
pub(super) const LONGEST_V1: usize = 107;
/// The fixed part of version 2.
pub(super) const FIXED_V2: usize = 16;
/// The longest rest of version 2 that is read: addresses and TLVs. Real ones have some hundred bytes.
pub(super) const LONGEST_V2: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Whom a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// This client came to this address of the proxy in front.
    Client {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// Nobody: the connection speaks for itself (`LOCAL`, `UNKNOWN`, families without addresses).
    Nobody,
}

/// Why bytes are no PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the connection does not begin with a PROXY protocol header")]
    Absent,
    #[error("the version 1 header is longer than 107 bytes")]
    TooLong,
    #[error("the version 2 header announces more than 4096 bytes")]
    TooLarge,
    #[error("the header is malformed")]
    Syntax,
}

/// What the first [`SHORTEST`] bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Tells the version by the first [`SHORTEST`] bytes.
pub(super) fn version(first: &[u8]) -> Result<Version, Malformed> {
    if first.starts_with(SIGNATURE) {
        Ok(Version::Two)
    } else if first.starts_with(b"PROXY ") {
        Ok(Version::One)
    } else {
        Err(Malformed::Absent)
    }
}

/// Reads a whole version 1 line, `\r\n` included.
pub(super) fn v1(line: &[u8]) -> Result<Named, Malformed> {
    let text = line.strip_suffix(b"\r\n").ok_or(Malformed::Syntax)?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Syntax)?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return Err(Malformed::Syntax);
    }
    let v4 = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => return Ok(Named::Nobody),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(Malformed::Syntax),
    };
    let mut address = || {
        let ip: IpAddr = words.next()?.parse().ok()?;
        (ip.is_ipv4() == v4).then_some(ip)
    };
    let (source, destination) = (address(), address());
    let mut port = || port(words.next()?);
    let (from, to) = (port(), port());
    match (source, destination, from, to, words.next()) {
        (Some(source), Some(destination), Some(from), Some(to), None) => Ok(Named::Client {
            source: SocketAddr::new(source, from),
            destination: SocketAddr::new(destination, to),
        }),
        _ => Err(Malformed::Syntax),
    }
}

/// Digits only, without leading zeros: `+80` and `080` are no ports.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// How many bytes follow the fixed part of version 2.
pub(super) fn v2_rest(fixed: &[u8; FIXED_V2]) -> Result<usize, Malformed> {
    let [.., version_and_command, _, high, low] = *fixed;
    if version_and_command >> 4 != 2 || version_and_command & 0xF > 1 {
        return Err(Malformed::Syntax);
    }
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > LONGEST_V2 {
        return Err(Malformed::TooLarge);
    }
    Ok(rest)
}

/// Reads a version 2 header whose lengths were checked by [`v2_rest`]. TLVs are skipped.
pub(super) fn v2(fixed: &[u8; FIXED_V2], rest: &[u8]) -> Result<Named, Malformed> {
    let [.., version_and_command, family, _, _] = *fixed;
    if version_and_command & 0xF == 0 {
        return Ok(Named::Nobody);
    }
    match family {
        0x11 => v2_addresses::<4>(rest, |octets| Ipv4Addr::from(octets).into()),
        0x21 => v2_addresses::<16>(rest, |octets| Ipv6Addr::from(octets).into()),
        // Unspecified, and UNIX sockets: no address that means anything here.
        0x00 | 0x31 => Ok(Named::Nobody),
        // Datagrams do not come over TCP; the rest is not defined.
        _ => Err(Malformed::Syntax),
    }
}

fn v2_addresses<const N: usize>(rest: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Result<Named, Malformed> {
    let (source, after) = rest.split_first_chunk::<N>().ok_or(Malformed::Syntax)?;
    let (destination, after) = after.split_first_chunk::<N>().ok_or(Malformed::Syntax)?;
    let (from, after) = after.split_first_chunk::<2>().ok_or(Malformed::Syntax)?;
    let (to, _tlvs) = after.split_first_chunk::<2>().ok_or(Malformed::Syntax)?;
    Ok(Named::Client {
        source: SocketAddr::new(ip(*source), u16::from_be_bytes(*from)),
        destination: SocketAddr::new(ip(*destination), u16::from_be_bytes(*to)),
    })
}
