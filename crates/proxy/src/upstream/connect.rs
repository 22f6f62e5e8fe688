//! Dialling: socket, then TLS, within one time limit.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pomerium_config::settings::UpstreamBind;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::{Endpoint, Protocol, Target};
use super::error::UpstreamError;
use super::host::Addresses;

/// A silent peer is asked after this time whether it is still there, then every so often.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// A peer that takes nothing for so long is gone, where many share the connection.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// A byte stream to an upstream.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A UNIX socket.
    Unix(UnixStream),
    /// TLS over TCP.
    TcpTls(Box<TlsStream<TcpStream>>),
    /// TLS over a UNIX socket.
    UnixTls(Box<TlsStream<UnixStream>>),
}

impl Stream {
    /// Has the kernel give the connection up when the peer is silent although there is something to send, which
    /// otherwise takes a quarter of an hour. For HTTP/2: over HTTP/1.1 an upstream may take its time with a body.
    /// It is not asked by HTTP/2 itself, whose pings servers of gRPC take for an attack.
    #[cfg(target_os = "linux")]
    pub(super) fn expect_acknowledgements(&self) {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::TcpTls(stream) => stream.get_ref().0,
            Self::Unix(_) | Self::UnixTls(_) => return,
        };
        let _ = SockRef::from(socket).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn expect_acknowledgements(&self) {}
}

/// Opens a connection to one of `addresses`, tried in order; the flag says whether HTTP/2 is to be spoken
/// on it. The caller limits the time.
pub(super) async fn dial(
    endpoint: &Endpoint,
    addresses: &Addresses,
    port: Option<u16>,
    bind: UpstreamBind,
) -> Result<(Stream, bool), UpstreamError> {
    let prior = endpoint.protocol == Protocol::Http2;
    match &endpoint.target {
        Target::Unix(path) => {
            let socket = UnixStream::connect(&**path)
                .await
                .map_err(UpstreamError::connect)?;
            match endpoint.tls.as_ref() {
                None => Ok((Stream::Unix(socket), prior)),
                Some(_) => {
                    let (tls, h2) = handshake(endpoint, socket).await?;
                    Ok((Stream::UnixTls(Box::new(tls)), h2))
                }
            }
        }
        Target::Tcp(_, own_port) => {
            let socket = connect_tcp(addresses, port.unwrap_or(*own_port), bind).await?;
            match endpoint.tls.as_ref() {
                None => Ok((Stream::Tcp(socket), prior)),
                Some(_) => {
                    let (tls, h2) = handshake(endpoint, socket).await?;
                    Ok((Stream::TcpTls(Box::new(tls)), h2))
                }
            }
        }
    }
}

async fn connect_tcp(
    addresses: &Addresses,
    port: u16,
    bind: UpstreamBind,
) -> Result<TcpStream, UpstreamError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match connect_one(SocketAddr::new(*address, port), bind).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(UpstreamError::connect(last))
}

async fn connect_one(to: SocketAddr, bind: UpstreamBind) -> io::Result<TcpStream> {
    let socket = match bind.source {
        None => TcpStream::connect(to).await?,
        Some(source) if source.is_ipv4() != to.is_ipv4() => {
            return Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                format!(
                    "{to} cannot be reached from {source} (envoy_bind_config_source_address): another family"
                ),
            ));
        }
        Some(source) => from_source(source, bind.freebind)?.connect(to).await?,
    };
    // Requests are small and wait for their answers: coalescing only adds delay.
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
    Ok(socket)
}

/// A socket with a local address; the port is the kernel's choice.
fn from_source(source: std::net::IpAddr, freebind: bool) -> io::Result<TcpSocket> {
    let socket = if source.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if freebind {
        allow_foreign_address(&socket, source)?;
    }
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn allow_foreign_address(socket: &TcpSocket, source: std::net::IpAddr) -> io::Result<()> {
    if source.is_ipv4() {
        SockRef::from(socket).set_freebind_v4(true)
    } else {
        SockRef::from(socket).set_freebind_v6(true)
    }
}

#[cfg(not(target_os = "linux"))]
fn allow_foreign_address(_: &TcpSocket, _: std::net::IpAddr) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "envoy_bind_config_freebind needs Linux",
    ))
}

async fn handshake<S>(endpoint: &Endpoint, socket: S) -> Result<(TlsStream<S>, bool), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(tls) = endpoint.tls.as_ref() else {
        return Err(UpstreamError::connect(io::Error::from(
            io::ErrorKind::Unsupported,
        )));
    };
    let stream = TlsConnector::from(tls.config.clone())
        .connect(tls.server_name.clone(), socket)
        .await
        .map_err(UpstreamError::connect)?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((stream, h2))
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::TcpTls($stream) => $call,
            Stream::UnixTls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::TcpTls(stream) => stream.is_write_vectored(),
            Self::UnixTls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_asks_after_silent_peers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bind = UpstreamBind::default();
        let socket = connect_one(listener.local_addr().unwrap(), bind).await.unwrap();
        let stream = Stream::Tcp(socket);
        stream.expect_acknowledgements();
        let Stream::Tcp(socket) = &stream else {
            unreachable!()
        };
        let socket = SockRef::from(socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }
}
