//! Writing a response to its stream.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, DATE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use jiff::Timestamp;
use pomerium_api::clock::Clock;
use pomerium_web::body::BoxError;
use pomerium_web::cookies::http_date;
use quinn::{SendStream, VarInt};

use super::code;
use super::head::is_of_a_connection;
use super::qpack::Encoder;
use super::varint;
use crate::body::{Reader, ResponseBody};
use crate::flow::Reply;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
/// A first piece of a body up to this size is copied behind the head: one write instead of two.
const JOINED: usize = 1024;
/// Room for the head of an ordinary response.
const HEAD: usize = 512;
/// Type and length of a header frame: room is left for them before the section is written.
const FRAME_HEAD: usize = 5;

/// Why a response was not written to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The client wants no more, or is gone, or does not read.
    Client,
    /// The body broke off.
    Body,
}

/// The sending side of a stream. Dropped unfinished it is reset: what the client has got is not a whole
/// response and must not look like one.
pub(super) struct Sender {
    stream: SendStream,
    done: bool,
}

impl Sender {
    pub(super) fn new(stream: SendStream) -> Self {
        Self { stream, done: false }
    }

    /// Ready when the client wants no answer any more, or the connection is gone.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    pub(super) fn reset(&mut self, code: VarInt) {
        if !std::mem::replace(&mut self.done, true) {
            let _ = self.stream.reset(code);
        }
    }

    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            let _ = self.stream.finish();
        }
    }

    /// Writes all of `pieces`, at the pace of the client: `reader`, who says when it has taken too long.
    async fn write(&mut self, reader: &mut Reader, mut pieces: &mut [Bytes]) -> Result<(), Unsent> {
        while !pieces.is_empty() {
            let chunks = self.write_some(reader, pieces).await?;
            pieces = &mut pieces[chunks..];
        }
        Ok(())
    }

    /// Writes what there is room for; returns how many pieces went out whole.
    async fn write_some(&mut self, reader: &mut Reader, pieces: &mut [Bytes]) -> Result<usize, Unsent> {
        let mut writing = pin!(self.stream.write_chunks(pieces));
        let mut waited = false;
        let written = poll_fn(|cx| match writing.as_mut().poll(cx) {
            Poll::Ready(written) => Poll::Ready(written.map_err(|_| Unsent::Client)),
            Poll::Pending => {
                waited = true;
                reader.poll_waiting(cx).map(|()| Err(Unsent::Client))
            }
        });
        let written = written.await?;
        if waited {
            reader.took();
        }
        Ok(written.chunks)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.reset(code::INTERNAL_ERROR);
    }
}

/// Sends a whole response.
pub(super) async fn send(
    sender: &mut Sender,
    reply: Reply,
    clock: &dyn Clock,
    stopped: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Unsent> {
    let (mut parts, mut body) = reply.into_parts();
    complete(&mut parts, &body, clock);
    let mut out = section(HEAD, |encoder| {
        encoder.status(parts.status);
        lines(encoder, &parts.headers);
    });
    drop(parts);
    let mut reader = body.reader();
    if !body.is_end_stream() {
        stream((sender, &mut reader), &mut body, &mut out, stopped).await?;
    }
    if !out.is_empty() {
        sender.write(&mut reader, &mut [out.freeze()]).await?;
    }
    sender.finish();
    Ok(())
}

/// Sends a body, with what waits in `out` before it.
async fn stream(
    (sender, reader): (&mut Sender, &mut Reader),
    body: &mut ResponseBody,
    out: &mut BytesMut,
    mut stopped: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Unsent> {
    loop {
        let frame = match now(body).await {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if !out.is_empty() {
                    sender.write(reader, &mut [out.split().freeze()]).await?;
                }
                tokio::select! {
                    biased;
                    frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)) => frame,
                    () = stopped.as_mut() => return Err(Unsent::Client),
                }
            }
        };
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|_| Unsent::Body)?;
        match frame.into_data() {
            Ok(data) => piece((sender, reader), out, data).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    out.unsplit(section(HEAD, |encoder| lines(encoder, &trailers)));
                }
                return Ok(());
            }
        }
    }
}

/// What the body has at once.
async fn now(body: &mut ResponseBody) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await
}

async fn piece(
    (sender, reader): (&mut Sender, &mut Reader),
    out: &mut BytesMut,
    data: Bytes,
) -> Result<(), Unsent> {
    if data.is_empty() {
        return Ok(());
    }
    out.put_u8(DATA);
    varint::write(data.len() as u64, out);
    if data.len() <= JOINED && out.len() < JOINED * 8 {
        // Waits for what comes next, or for the end.
        out.extend_from_slice(&data);
        return Ok(());
    }
    sender.write(reader, &mut [out.split().freeze(), data]).await
}

/// A header frame.
fn section(room: usize, write: impl FnOnce(&mut Encoder<'_>)) -> BytesMut {
    let mut out = BytesMut::with_capacity(room);
    out.put_bytes(0, FRAME_HEAD);
    write(&mut Encoder::new(&mut out));
    let length = (out.len() - FRAME_HEAD) as u64;
    let mut head = [0; FRAME_HEAD];
    head[0] = HEADERS;
    // Any form of an integer will do, so the longest that fits the room.
    (&mut head[1..]).put_u32(0x8000_0000 | length as u32);
    out[..FRAME_HEAD].copy_from_slice(&head);
    out
}

fn lines(encoder: &mut Encoder<'_>, headers: &HeaderMap) {
    for (name, value) in headers {
        if !is_of_a_connection(name) {
            encoder.line(name.as_str(), value.as_bytes(), value.is_sensitive());
        }
    }
}

/// Adds what the HTTP library adds on the other versions: the length, when it is known, and the date.
fn complete(parts: &mut Parts, body: &ResponseBody, clock: &dyn Clock) {
    if !body.is_end_stream()
        && let Some(length) = body.size_hint().exact()
    {
        parts
            .headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
    parts.headers.entry(DATE).or_insert_with(|| date(clock.now()));
}

/// The date, made once a second.
fn date(now: Timestamp) -> HeaderValue {
    thread_local! {
        static LAST: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((second, value)) = last
            && *second == now.as_second()
        {
            return value.clone();
        }
        let value = HeaderValue::try_from(http_date(now)).unwrap_or(HeaderValue::from_static(""));
        *last = Some((now.as_second(), value.clone()));
        value
    })
}
