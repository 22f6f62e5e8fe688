//! The UDP listener of HTTP/3: one socket and one QUIC endpoint for the whole process.
//!
//! One endpoint, because a connection is known by its id and not by an address: a client that moves is still
//! found, whichever packet arrives first. One socket for both families, so that a client may move from one to
//! the other. The endpoint reads the socket on the first worker and hands each connection to a worker in turn;
//! from there on its packets are decrypted, answered and sent by that worker.
//!
//! What a handshake gets is an [`Offer`], which can change while connections come.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pomerium_certs::client::{Demand, Refused};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::client_tls::Choice;
use crate::conn::http3::{self, CONTROL_STREAMS};
use crate::worker::Worker;

/// Handshakes under way from which on a client has to show first that it receives at its address.
const RETRY_FROM: usize = 64;
/// Handshakes under way at once; more are turned away.
const MAX_HANDSHAKES: usize = 4096;
/// Connections that wait to be looked at, and the bytes that may wait with them.
const MAX_INCOMING: usize = 1024;
const INCOMING_BYTES: u64 = 16 * 1024;
const ALL_INCOMING_BYTES: u64 = 8 * 1024 * 1024;
/// Windows, as on HTTP/2.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What may wait to be sent or acknowledged on one connection.
const SEND_WINDOW: u64 = 1024 * 1024;
/// Buffers of the socket, as far as the kernel allows.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// A worker and the runtime it lives on.
type Home = (Handle, Arc<Worker>);

/// The running listener. Dropping it turns new connections away; those that are there go on.
#[derive(Debug)]
pub(crate) struct QuicListener {
    endpoint: Endpoint,
    address: SocketAddr,
    /// The addresses of the TCP listener it stands beside.
    beside: Vec<SocketAddr>,
    offer: Arc<ArcSwap<Offer>>,
    closing: CancellationToken,
}

/// What a new connection gets.
#[derive(Debug)]
pub(crate) struct Offer {
    config: Arc<ServerConfig>,
    choice: Choice,
    idle: Option<Duration>,
}

impl Offer {
    fn new(choice: Choice, idle: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            config: Arc::new(server_config(rustls::ServerConfig::clone(&choice.config), idle)?),
            choice,
            idle,
        })
    }

    /// Whether it is made of these.
    fn is_of(&self, choice: &Choice, idle: Option<Duration>) -> bool {
        Arc::ptr_eq(&self.choice.config, &choice.config) && self.idle == idle
    }

    /// What the handshake asks clients for.
    pub(crate) fn demand(&self) -> Option<&Arc<Demand>> {
        self.choice.demand.as_ref()
    }

    /// The settings of one handshake. Where it judges certificates itself, there is a slot for one that it refuses.
    pub(crate) fn handshake(&self) -> io::Result<(Arc<ServerConfig>, Option<Refused>)> {
        let Some(demand) = self.demand().filter(|demand| demand.is_strict()) else {
            return Ok((Arc::clone(&self.config), None));
        };
        let (tls, refused) = demand.noting(&self.choice.config).map_err(io::Error::other)?;
        let mut config = ServerConfig::clone(&self.config);
        config.crypto = Arc::new(QuicServerConfig::try_from(tls).map_err(io::Error::other)?);
        Ok((Arc::new(config), Some(refused)))
    }
}

impl QuicListener {
    /// Serves on `socket`, beside the TCP listener of `beside`.
    ///
    /// Errors when it cannot be used, or TLS cannot be set up.
    pub(crate) fn start(
        socket: UdpSocket,
        beside: &[SocketAddr],
        choice: Choice,
        idle: Option<Duration>,
        workers: &[Arc<Worker>],
    ) -> io::Result<Self> {
        let homes: Vec<Home> = workers
            .iter()
            .filter_map(|worker| Some((worker.runtime()?.clone(), worker.clone())))
            .collect();
        let (first, _) = homes.first().ok_or(io::ErrorKind::NotConnected)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let offer = Offer::new(choice, idle)?;
        let entered = first.enter();
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(ServerConfig::clone(&offer.config)),
            socket,
            Arc::new(TokioRuntime),
        )?;
        drop(entered);
        let first = first.clone();
        let door = Door {
            endpoint: endpoint.clone(),
            address,
            offer: Arc::new(ArcSwap::from_pointee(offer)),
            closing: CancellationToken::new(),
        };
        let (offer, closing) = (Arc::clone(&door.offer), door.closing.clone());
        first.spawn(accept(door, homes));
        Ok(Self {
            endpoint,
            address,
            beside: beside.to_vec(),
            offer,
            closing,
        })
    }

    /// The address of the socket.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Counts for new connections.
    pub(crate) fn configure(&self, choice: Choice, idle: Option<Duration>) -> io::Result<()> {
        if self.offer.load().is_of(&choice, idle) {
            return Ok(());
        }
        let offer = Offer::new(choice, idle)?;
        self.endpoint
            .set_server_config(Some(ServerConfig::clone(&offer.config)));
        self.offer.store(Arc::new(offer));
        Ok(())
    }

    /// Whether it stands beside the TCP listener of `bound`.
    pub(crate) fn serves(&self, bound: &[SocketAddr]) -> bool {
        self.beside == bound
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// One socket for the addresses of the TCP listener. Both families share one where the machine has both.
pub(crate) fn bind(bound: &[SocketAddr]) -> io::Result<UdpSocket> {
    let address = bound
        .iter()
        .find(|address| address.is_ipv6())
        .or(bound.first())
        .copied()
        .ok_or_else(|| io::Error::other("no address to listen on"))?;
    let both = bound.len() > 1 && address.ip().is_unspecified();
    match socket(address, both) {
        Err(error) if both => {
            tracing::debug!(%error, "no UDP socket for both address families");
            socket(
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()),
                false,
            )
        }
        made => made,
    }
    .map_err(|error| {
        let text = format!("cannot listen on UDP {address} for HTTP/3: {error}");
        io::Error::new(error.kind(), text)
    })
}

fn socket(address: SocketAddr, both: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!both)?;
    }
    // Less than wished for is no reason to fail.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn server_config(mut tls: rustls::ServerConfig, idle: Option<Duration>) -> io::Result<ServerConfig> {
    // What a client sends before its handshake is done can be replayed by anybody who saw it.
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    // The keys of resets and of retry tokens are random, per process.
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(idle)?))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES);
    // Clients need not be known again: under load they show their address once more.
    config.validation_token.sent(0);
    Ok(config)
}

fn transport(idle: Option<Duration>) -> io::Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(http3::STREAMS.into())
        .max_concurrent_uni_streams(CONTROL_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(
            idle.map(TryInto::try_into)
                .transpose()
                .map_err(io::Error::other)?,
        );
    Ok(transport)
}

/// What the accepting side of the listener needs.
struct Door {
    endpoint: Endpoint,
    address: SocketAddr,
    offer: Arc<ArcSwap<Offer>>,
    closing: CancellationToken,
}

/// Hands connections to the workers in turn.
async fn accept(door: Door, homes: Vec<Home>) {
    let Door {
        endpoint,
        address,
        offer,
        closing,
    } = door;
    let handshakes = Arc::new(AtomicUsize::new(0));
    let mut turn = 0;
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = closing.cancelled() => break,
        };
        let Some(incoming) = incoming else { return };
        let Some((handle, worker)) = homes.get(turn % homes.len()) else {
            return;
        };
        turn = turn.wrapping_add(1);
        if let Some(incoming) = invite(incoming, worker, handshakes.load(Ordering::Relaxed)) {
            let Some(admitted) = worker.admitted(incoming.remote_address()) else {
                incoming.refuse();
                continue;
            };
            let under_way = UnderWay::begin(&handshakes);
            let open = worker.lifecycle.enter();
            let (worker, offer) = (worker.clone(), offer.load_full());
            handle.spawn(async move {
                http3::serve(worker, (incoming, offer), address, under_way).await;
                drop((open, admitted));
            });
        }
    }
    turn_away(&endpoint).await;
}

/// Turns new connections away while the old ones last: said so, a client turns to TCP at once.
async fn turn_away(endpoint: &Endpoint) {
    loop {
        tokio::select! {
            biased;
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => incoming.refuse(),
                None => return,
            },
            () = endpoint.wait_idle() => return,
        }
    }
}

/// Turns away what is too much, and asks clients for proof of their address when many are at the door.
fn invite(incoming: Incoming, worker: &Worker, handshakes: usize) -> Option<Incoming> {
    if worker.lifecycle.draining.is_cancelled() || handshakes >= MAX_HANDSHAKES {
        incoming.refuse();
        return None;
    }
    if handshakes >= RETRY_FROM && incoming.may_retry() && !incoming.remote_address_validated() {
        if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
        return None;
    }
    Some(incoming)
}

/// A handshake under way.
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
