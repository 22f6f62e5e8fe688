//! Sockets that listen: which addresses ([`bind`]), which of them are open ([`group`]), what a load balancer
//! in front says about the client ([`proxy_protocol`]), the UDP one of HTTP/3
//! ([`quic`]), and the plain one that redirects ([`redirect`]).

pub mod bind;
pub(crate) mod group;
pub(crate) mod http3;
pub(crate) mod proxy_protocol;
pub(crate) mod quic;
pub(crate) mod redirect;

use std::net::{TcpListener, UdpSocket};

/// Listening sockets that somebody else has opened: the service manager, or the process before this one.
/// Where there are any, the address of the settings is not bound.
#[derive(Debug, Default)]
pub struct Handed {
    /// For the main listener.
    pub main: Vec<TcpListener>,
    /// For the plain listener that redirects.
    pub redirect: Vec<TcpListener>,
    /// For the listener for other proxies.
    pub decision: Vec<TcpListener>,
    /// For HTTP/3, beside the main listener.
    pub udp: Option<UdpSocket>,
}
