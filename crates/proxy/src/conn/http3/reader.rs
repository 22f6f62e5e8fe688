//! The frames of a request stream, as they come (RFC 9114 section 7).
//!
//! Nothing is gathered but a header section, up to its limit; bodies pass in the pieces the transport has,
//! without a copy, and unknown frames are read past.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, VarInt};

use super::{code, varint};

/// The largest piece taken at once.
const PIECE: usize = 64 * 1024;
/// Frame types.
const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
/// CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID, and what HTTP/2 had: not on a request stream.
const FORBIDDEN: [u64; 9] = [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd];

/// What comes next on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A piece of a body.
    Data(Bytes),
    /// A whole header section, still encoded.
    Section(Bytes),
    /// The stream has ended.
    End,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The client has reset it, or the connection is gone.
    Gone,
    /// A header section above the limit; nothing of it was read.
    TooLarge,
    /// The client breaks the rules in a way that ends the connection.
    Connection(VarInt),
    /// The client breaks the rules in a way that ends the request.
    Stream(VarInt),
}

/// Where in a frame we are.
enum State {
    Between,
    Data(u64),
    Skip(u64),
    Section(usize, BytesMut),
}

/// Reads the frames of one stream.
pub(super) struct Reader {
    stream: RecvStream,
    held: Bytes,
    ended: bool,
    state: State,
    /// What was looked at and is still to come.
    seen: Option<Result<Event, Fault>>,
    /// The largest header section, encoded.
    limit: usize,
}

impl Reader {
    pub(super) fn new(stream: RecvStream, limit: usize) -> Self {
        Self {
            stream,
            held: Bytes::new(),
            ended: false,
            state: State::Between,
            seen: None,
            limit,
        }
    }

    /// What comes next.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Fault>> {
        if let Some(seen) = self.seen.take() {
            return Poll::Ready(seen);
        }
        loop {
            match &mut self.state {
                State::Between => match self.begin()? {
                    true => {}
                    false if ready!(self.poll_fill(cx))? => {}
                    false if self.held.is_empty() => return Poll::Ready(Ok(Event::End)),
                    false => return Poll::Ready(Err(Fault::Connection(code::FRAME_ERROR))),
                },
                State::Data(0) | State::Skip(0) => self.state = State::Between,
                State::Section(0, whole) => {
                    let whole = std::mem::take(whole).freeze();
                    self.state = State::Between;
                    return Poll::Ready(Ok(Event::Section(whole)));
                }
                _ if self.held.is_empty() => {
                    if !ready!(self.poll_fill(cx))? {
                        return Poll::Ready(Err(Fault::Connection(code::FRAME_ERROR)));
                    }
                }
                State::Data(left) => {
                    let piece = take(&mut self.held, left);
                    return Poll::Ready(Ok(Event::Data(piece)));
                }
                State::Skip(left) => drop(take(&mut self.held, left)),
                State::Section(left, whole) => {
                    let piece = self.held.split_to(self.held.len().min(*left));
                    *left -= piece.len();
                    if *left == 0 && whole.is_empty() {
                        self.state = State::Between;
                        return Poll::Ready(Ok(Event::Section(piece)));
                    }
                    whole.extend_from_slice(&piece);
                }
            }
        }
    }

    /// Reads the type and length of a frame; false when more bytes are needed.
    fn begin(&mut self) -> Result<bool, Fault> {
        let Some((kind, first)) = varint::read(&self.held) else {
            return Ok(false);
        };
        let Some((length, second)) = varint::read(&self.held[first..]) else {
            return Ok(false);
        };
        self.state = match kind {
            DATA => State::Data(length),
            HEADERS => match usize::try_from(length) {
                Ok(length) if length <= self.limit => State::Section(length, BytesMut::new()),
                _ => return Err(Fault::TooLarge),
            },
            kind if FORBIDDEN.contains(&kind) => return Err(Fault::Connection(code::FRAME_UNEXPECTED)),
            _ => State::Skip(length),
        };
        drop(self.held.split_to(first + second));
        Ok(true)
    }

    /// Takes more bytes from the transport; false at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        // Reading is cancel-safe: the future is made anew for each look and keeps nothing.
        let read = pin!(self.stream.read_chunk(PIECE, true)).poll(cx);
        Poll::Ready(match ready!(read) {
            Ok(Some(chunk)) if self.held.is_empty() => {
                self.held = chunk.bytes;
                Ok(true)
            }
            Ok(Some(chunk)) => {
                // The rest of a frame head, a few bytes.
                let mut joined = BytesMut::with_capacity(self.held.len() + chunk.bytes.len());
                joined.extend_from_slice(&self.held);
                joined.extend_from_slice(&chunk.bytes);
                self.held = joined.freeze();
                Ok(true)
            }
            Ok(None) => {
                self.ended = true;
                Ok(false)
            }
            Err(_) => {
                self.ended = true;
                Err(Fault::Gone)
            }
        })
    }

    /// Whether the stream ends here, as far as is known or comes to be known within `patience`.
    pub(super) async fn ends(&mut self, patience: Option<Duration>) -> bool {
        let known = std::future::poll_fn(|cx| Poll::Ready(self.poll_event(cx))).await;
        let event = match (known, patience) {
            (Poll::Ready(event), _) => event,
            (Poll::Pending, None) => return false,
            (Poll::Pending, Some(patience)) => {
                let next = std::future::poll_fn(|cx| self.poll_event(cx));
                match tokio::time::timeout(patience, next).await {
                    Ok(event) => event,
                    Err(_) => return false,
                }
            }
        };
        let ends = event == Ok(Event::End);
        self.seen = Some(event);
        ends
    }

    /// Tells the client to send no more.
    pub(super) fn stop(&mut self, code: VarInt) {
        if !std::mem::replace(&mut self.ended, true) {
            let _ = self.stream.stop(code);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // What is left of the body is of no use to anybody (RFC 9114 section 4.1).
        self.stop(code::NO_ERROR);
    }
}

fn take(held: &mut Bytes, left: &mut u64) -> Bytes {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(held.len());
    *left -= here as u64;
    held.split_to(here)
}
