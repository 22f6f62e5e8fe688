//! Who the client is and what the proxy says about it upstream (proxy.md 1.6, 1.7, 4.5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Connection, Refusal, Rules, Scheme, headers::REQUEST_ID};

pub(super) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const EXTERNAL: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// What the connection and the forwarded headers say about the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub client_ip: IpAddr,
    pub peer_trusted: bool,
    pub scheme: Scheme,
}

/// Reads; changes nothing.
pub(super) fn read(headers: &HeaderMap, conn: &Connection, rules: &Rules) -> Origin {
    let peer = peer_ip(conn.peer);
    let peer_trusted = is_trusted(peer, rules);
    let transport = if conn.tls { Scheme::Https } else { Scheme::Http };
    if !peer_trusted {
        return Origin {
            client_ip: peer,
            peer_trusted,
            scheme: transport,
        };
    }
    let hops: Vec<&str> = hops(headers);
    let client_ip = match rules.xff_trusted_hops {
        0 => first_untrusted(peer, &hops, rules),
        count => nth_from_right(&hops, count).unwrap_or(peer),
    };
    Origin {
        client_ip,
        peer_trusted,
        scheme: forwarded_scheme(headers).unwrap_or(transport),
    }
}

/// Writes the headers that upstreams read.
pub(super) fn write(
    headers: &mut HeaderMap,
    conn: &Connection,
    origin: &Origin,
    rules: &Rules,
) -> Result<(), Refusal> {
    let peer = peer_ip(conn.peer);
    let peer_value = ip_value(peer);
    headers.insert(PROTO, HeaderValue::from_static(origin.scheme.as_str()));
    if !is_internal(origin.client_ip) {
        let client = if origin.client_ip == peer {
            peer_value.clone()
        } else {
            ip_value(origin.client_ip)
        };
        headers.insert(EXTERNAL, client);
    }
    if !rules.skip_xff_append {
        append_peer(headers, peer_value)?;
    }
    Ok(())
}

/// The id of the request: a trusted peer's if it looks like one, else a new one. Written to the headers.
pub(super) fn request_id(
    headers: &mut HeaderMap,
    peer_trusted: bool,
    new_id: &mut dyn FnMut() -> String,
) -> String {
    if peer_trusted && let Some(id) = only(headers, &REQUEST_ID).filter(|id| is_sane_id(id)) {
        return id.to_owned();
    }
    let id = new_id();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    id
}

/// Appends the original authority to `x-forwarded-host`, unless it is the last element already. For the
/// forwarder, when the route rewrites the host (proxy.md 4.5). A client's own value is gone by then; a
/// trusted peer's stands in front.
pub fn append_forwarded_host(headers: &mut HeaderMap, authority: &str) {
    let before = headers
        .get(HOST)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty());
    let joined = match before {
        Some(list)
            if list
                .rsplit(',')
                .next()
                .is_some_and(|last| last.trim() == authority) =>
        {
            return;
        }
        Some(list) => HeaderValue::from_str(&format!("{list},{authority}")),
        None => HeaderValue::from_str(authority),
    };
    if let Ok(value) = joined {
        headers.insert(HOST, value);
    }
}

/// Loopback and private ranges: 127.0.0.1, 10/8, 172.16/12, 192.168/16, ::1, fd00::/8.
pub fn is_internal(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.octets() == [127, 0, 0, 1],
        IpAddr::V6(ip) => ip.is_loopback() || ip.octets()[0] == 0xfd,
    }
}

/// IPv4 clients on an IPv6 socket are IPv4 clients.
fn peer_ip(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

fn is_trusted(peer: IpAddr, rules: &Rules) -> bool {
    if rules.trusted.is_empty() {
        rules.xff_trusted_hops > 0
    } else {
        in_trusted(peer, rules)
    }
}

fn in_trusted(ip: IpAddr, rules: &Rules) -> bool {
    rules.trusted.iter().any(|net| net.contains(&ip))
}

/// All elements of all fields, in order.
fn hops(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(FOR)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("").split(','))
        .map(str::trim)
        .collect()
}

/// The element `count` places from the right; none, or none that is an address, means the peer.
fn nth_from_right(hops: &[&str], count: usize) -> Option<IpAddr> {
    parse_ip(hops.get(hops.len().checked_sub(count)?)?)
}

/// The first address from the right that is not a proxy of ours; the walk ends at what is no address.
fn first_untrusted(peer: IpAddr, hops: &[&str], rules: &Rules) -> IpAddr {
    let mut client = peer;
    for hop in hops.iter().rev() {
        let Some(ip) = parse_ip(hop) else { break };
        client = ip;
        if !in_trusted(ip, rules) {
            break;
        }
    }
    client
}

/// An address, with or without a port: some load balancers write one.
fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(with_port) = text.parse::<SocketAddr>() {
        return Some(with_port.ip().to_canonical());
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn forwarded_scheme(headers: &HeaderMap) -> Option<Scheme> {
    match only(headers, &PROTO)? {
        proto if proto.eq_ignore_ascii_case("https") => Some(Scheme::Https),
        proto if proto.eq_ignore_ascii_case("http") => Some(Scheme::Http),
        _ => None,
    }
}

/// The value, if there is exactly one and it is text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        None
    } else {
        value.to_str().ok()
    }
}

fn is_sane_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte))
}

fn append_peer(headers: &mut HeaderMap, peer: HeaderValue) -> Result<(), Refusal> {
    let mut values = headers.get_all(FOR).iter().peekable();
    if values.peek().is_none() {
        headers.insert(FOR, peer);
        return Ok(());
    }
    let mut list = Vec::new();
    for value in values.filter(|value| !value.is_empty()) {
        list.extend_from_slice(value.as_bytes());
        list.push(b',');
    }
    list.extend_from_slice(peer.as_bytes());
    let value = HeaderValue::from_bytes(&list).map_err(|_| Refusal::bad("x-forwarded-for is malformed"))?;
    headers.insert(FOR, value);
    Ok(())
}

fn ip_value(ip: IpAddr) -> HeaderValue {
    let value = match ip {
        IpAddr::V4(ip) => {
            let (text, len) = ipv4_text(ip);
            HeaderValue::from_bytes(&text[..len])
        }
        IpAddr::V6(ip) => HeaderValue::from_str(&ip.to_string()),
    };
    value.unwrap_or_else(|_| HeaderValue::from_static("0.0.0.0"))
}

/// The address as it prints and its length. Every request writes one; the formatting machinery costs ten
/// times as much.
fn ipv4_text(ip: Ipv4Addr) -> ([u8; 15], usize) {
    let mut text = [0; 15];
    let mut len = 0;
    let mut push = |byte: u8| {
        text[len] = byte;
        len += 1;
    };
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    (text, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_their_display() {
        for text in [
            "0.0.0.0",
            "9.10.99.100",
            "101.109.110.199",
            "200.205.250.255",
            "255.255.255.255",
            "2001:db8::1",
        ] {
            assert_eq!(ip_value(text.parse().unwrap()), text);
        }
    }
}
