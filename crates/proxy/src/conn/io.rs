//! The byte stream of a connection. It notes when a request head begins to arrive and when the client
//! stops reading, which the HTTP library does not tell.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frames::Frames;
use super::state::ConnState;

/// Plain or TLS.
pub enum Transport {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A transport with its connection's clock.
pub struct ServerStream {
    pub(super) transport: Transport,
    pub(super) state: Arc<ConnState>,
    /// Read before, and not yet handed out.
    held: Bytes,
    gathers: bool,
    /// Of HTTP/2.
    frames: Option<Frames>,
}

impl ServerStream {
    pub(super) fn new(transport: Transport, state: Arc<ConnState>) -> Self {
        Self {
            transport,
            state,
            held: Bytes::new(),
            gathers: true,
            frames: None,
        }
    }

    /// HTTP/2 is spoken on it.
    pub(super) fn in_frames(self) -> Self {
        Self {
            frames: Some(Frames::new()),
            ..self
        }
    }

    /// For answers that are short: without writes that gather, the HTTP/2 library copies frames of less than 1,024
    /// bytes into its buffer and writes many of them at once. (With them it does so below 256 bytes only.)
    pub(super) fn for_short_answers(self) -> Self {
        Self {
            gathers: false,
            ..self
        }
    }

    /// Bytes that are handed out before what was held back.
    pub(super) fn put_back(&mut self, before: &[u8]) {
        self.held = [before, &self.held].concat().into();
    }

    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let size = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..size]);
        self.held.advance(size);
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.waits_for_wide() {
            return Poll::Pending;
        }
        if !self.held.is_empty() {
            self.hand_out(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            match &mut self.frames {
                Some(frames) => {
                    let heads = frames.follow(&buf.filled()[before..]);
                    self.state.followed(heads);
                }
                None => self.state.received(),
            }
            if self.state.is_too_wide(&buf.filled()[before..]) {
                self.held = Bytes::copy_from_slice(&buf.filled()[before..]);
                buf.set_filled(before);
                return Poll::Pending;
            }
        }
        polled
    }
}

impl ServerStream {
    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &polled {
            Poll::Pending => self.state.write_blocked(),
            Poll::Ready(_) => self.state.write_moved(),
        }
        polled
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.noted(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.gathers
            && match &self.transport {
                Transport::Plain(stream) => stream.is_write_vectored(),
                Transport::Tls(stream) => stream.is_write_vectored(),
            }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
