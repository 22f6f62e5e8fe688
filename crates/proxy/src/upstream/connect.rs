//! Dialling: socket, then TLS, within one time limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dns::Resolver;
use super::endpoint::{Endpoint, Protocol, Target};
use super::error::UpstreamError;

/// Connect limit, TLS included; not configurable (spec proxy.md 1.1).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Opens a connection; the flag says whether HTTP/2 is to be spoken on it.
pub async fn dial(endpoint: &Endpoint, resolver: &Resolver) -> Result<(Stream, bool), UpstreamError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, open(endpoint, resolver)).await {
        Ok(result) => result,
        Err(_) => Err(UpstreamError::ConnectTimeout),
    }
}

async fn open(endpoint: &Endpoint, resolver: &Resolver) -> Result<(Stream, bool), UpstreamError> {
    let prior = endpoint.protocol == Protocol::Http2;
    match &endpoint.target {
        Target::Unix(path) => {
            let socket = UnixStream::connect(path).await.map_err(UpstreamError::connect)?;
            match endpoint.tls.as_ref() {
                None => Ok((Stream::Unix(socket), prior)),
                Some(_) => {
                    let (tls, h2) = handshake(endpoint, socket).await?;
                    Ok((Stream::UnixTls(Box::new(tls)), h2))
                }
            }
        }
        Target::Tcp(host, port) => {
            let socket = connect_tcp(host, *port, resolver).await?;
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

async fn connect_tcp(host: &str, port: u16, resolver: &Resolver) -> Result<TcpStream, UpstreamError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in resolver.resolve(host).await? {
        match TcpStream::connect((address, port)).await {
            Ok(socket) => {
                // Requests are small and wait for their answers: coalescing only adds delay.
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(UpstreamError::connect(last))
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
