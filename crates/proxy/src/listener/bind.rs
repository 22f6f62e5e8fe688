//! From an address setting to listening sockets (spec proxy.md 1.1).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted, per socket.
const BACKLOG: i32 = 1024;

/// The addresses behind `host:port`. An empty host, `*` and `[::]` mean every address of both families.
///
/// Errors when the host has no address or the port is no number.
pub fn addresses(setting: &str) -> io::Result<Vec<SocketAddr>> {
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{setting:?} is no listen address"),
        )
    };
    let (host, port) = setting.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if matches!(bare, "" | "*" | "::") {
        let both = [
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ];
        return Ok(both.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
    }
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip.to_canonical(), port)]);
    }
    let mut found: Vec<_> = (bare, port).to_socket_addrs()?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.truncate(1);
    if found.is_empty() {
        Err(invalid())
    } else {
        Ok(found)
    }
}

/// One set of sockets per worker, all on the same addresses. Port 0 is chosen by the first socket and
/// used by all others. Ports of `own` may be shared: other sockets of this process listen there.
///
/// Errors when an address cannot be bound. A machine without IPv6 listens on IPv4 alone.
pub fn bind(
    setting: &str,
    sets: usize,
    own: &[SocketAddr],
) -> io::Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>)> {
    let mut wanted = addresses(setting)?;
    let beside_own = wanted
        .iter()
        .any(|wanted| wanted.port() != 0 && own.iter().any(|own| own.port() == wanted.port()));
    let mut port = wanted.first().map_or(0, SocketAddr::port);
    let mut made: Vec<Vec<TcpListener>> = (0..sets.max(1)).map(|_| Vec::new()).collect();
    let both = wanted.len() > 1;
    let mut bound = Vec::new();
    for address in &mut wanted {
        for (index, set) in made.iter_mut().enumerate() {
            address.set_port(port);
            let sharing = if index == 0 && !beside_own {
                Sharing::First
            } else {
                Sharing::Further
            };
            match listen(*address, sharing) {
                Ok(listener) => {
                    let local = listener.local_addr()?;
                    port = local.port();
                    if !bound.contains(&local) {
                        bound.push(local);
                    }
                    set.push(listener);
                }
                Err(error) if both && address.is_ipv6() && no_ipv6(&error) => break,
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("cannot listen on {address}: {error}"),
                    ));
                }
            }
        }
    }
    Ok((bound, made))
}

fn no_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(97)
}

/// Whether a socket shares its address with others of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Shares with those that follow, but takes the address for itself: two programs that both share would each get a
    /// part of the connections, without a word.
    First,
    Further,
}

fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(sharing == Sharing::Further)?;
    if address.is_ipv6() {
        // The IPv4 side has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_address() {
        let v4 = |text: &str| {
            addresses(text)
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(v4(":443"), ["[::]:443", "0.0.0.0:443"]);
        assert_eq!(v4("[::]:443"), ["[::]:443", "0.0.0.0:443"]);
        assert_eq!(v4("127.0.0.1:8443"), ["127.0.0.1:8443"]);
        assert_eq!(v4("[::ffff:192.0.2.1]:1"), ["192.0.2.1:1"]);
        assert_eq!(v4("[::1]:1"), ["[::1]:1"]);
        assert_eq!(v4("localhost:1"), ["127.0.0.1:1"]);
        for bad in ["443", "localhost", "localhost:x", "localhost:70000"] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_zero_is_one_port_for_all_workers() {
        let (bound, sets) = bind("127.0.0.1:0", 3, &[]).unwrap();
        assert_eq!(sets.len(), 3);
        assert_eq!(bound.len(), 1);
        assert!(bound[0].port() != 0);
        assert!(
            sets.iter()
                .flatten()
                .all(|listener| listener.local_addr().unwrap() == bound[0])
        );
    }

    #[test]
    fn a_taken_address_is_an_error_that_names_it() {
        let (bound, _sockets) = bind("127.0.0.1:0", 1, &[]).unwrap();
        let error = bind(&bound[0].to_string(), 1, &[]).unwrap_err();
        assert!(error.to_string().contains(&bound[0].to_string()));
    }

    #[test]
    fn two_programs_with_several_workers_do_not_share_an_address() {
        let (bound, _sockets) = bind("127.0.0.1:0", 2, &[]).unwrap();
        let error = bind(&bound[0].to_string(), 2, &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_program_may_share_an_address_with_itself() {
        for (before, after) in [(1, 1), (2, 2), (1, 3)] {
            let (bound, _sockets) = bind("127.0.0.1:0", before, &[]).unwrap();
            bind(&bound[0].to_string(), after, &bound).unwrap();
        }
    }
}
