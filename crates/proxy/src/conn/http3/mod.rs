//! HTTP/3 over one QUIC connection (RFC 9114), server side.
//!
//! [`serve`] takes a [`handshake`] and drives the connection: it accepts streams, hands each to [`request`] in a
//! task of its own, and says goodbye. A request is read by [`reader`] (frames), [`qpack`] (lines) and [`head`]
//! (meaning), goes through the same flow as one over HTTP/1.1, and its answer is written by [`answer`].
//!
//! What a request means is not here. QUIC itself (packets, crypto, loss, flow control) is the `quinn`
//! library's; its socket is `listener::quic`'s. Why this layer is ours: docs/adr, HTTP/3.
//!
//! An address counts only when the client has shown that it receives there. A handshake shows it; a client
//! that goes on from another IP address later has not, as far as we can see, and its packets may carry an
//! address that is not its own. So what runs goes on wherever the client is, but nothing new is taken from
//! there: the client opens a new connection. A new port of the same address changes nothing.

mod answer;
mod body;
mod code;
mod control;
mod handshake;
mod head;
mod link;
mod qpack;
mod reader;
mod request;
mod serve;
mod varint;

pub(crate) use serve::serve;

/// Requests a client may have open at once.
pub(crate) const STREAMS: u32 = super::serve::STREAMS;

/// Streams a client may open beside its requests: control, two for compression, and a few it may try.
pub(crate) const CONTROL_STREAMS: u32 = 8;
