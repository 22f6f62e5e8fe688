//! What a connection to the listener for services has to put up with: pings that come too often end it, with GOAWAY and
//! ENHANCE_YOUR_CALM, as gRPC's own servers do; so does a peer that never says what it speaks.
//!
//! The HTTP library answers pings by itself and tells nobody, so they are counted here, below it, frame by frame.
//! Nothing of a frame but its head is looked at, and nothing is changed. Start at [`Calm`]; the rules are in [`Pings`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::frames::{DATA, Frames, HEADERS, PING, PREFACE};

/// Pings closer together than this are too many…
const SPACING: Duration = Duration::from_secs(1);
/// …when it happens more often than this without an answer of ours in between.
const STRIKES: u32 = 2;
/// ACK, of a ping that we have sent.
const ACK: u8 = 1;
/// What a peer may still send after the farewell, in bytes and time, so that the farewell is not lost in a reset.
const AFTERWARDS: usize = 256 * 1024;
const LAST_WORDS: Duration = Duration::from_secs(1);
/// GOAWAY on stream 0 with ENHANCE_YOUR_CALM (RFC 9113 section 7); what gRPC clients look for behind it. Every stream up to
/// the last possible one may have been worked on.
const FAREWELL: [u8; 31] = *b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

/// Counts pings as gRPC's servers do.
#[derive(Debug, Default)]
struct Pings {
    last: Option<Instant>,
    strikes: u32,
}

impl Pings {
    /// A ping has come; false when it is one too many.
    fn come(&mut self, now: Instant) -> bool {
        let early = self.last.is_some_and(|last| now < last + SPACING);
        self.last = Some(now);
        if early {
            self.strikes += 1;
        }
        self.strikes <= STRIKES
    }

    /// We have sent an answer: clients ping to measure how fast it comes.
    fn answered(&mut self) {
        self.last = None;
        self.strikes = 0;
    }
}

/// What the peer speaks.
#[derive(Debug)]
enum Speech {
    /// It has not said so much; this many bytes of the preface are here.
    Unknown(usize),
    /// Not HTTP/2: nothing is counted.
    Other,
    Http2,
}

/// A connection that is watched.
pub(super) struct Calm<S> {
    inner: S,
    speech: Speech,
    /// Until when the peer has to say what it speaks; afterwards, until when it may go on after the farewell.
    deadline: Pin<Box<Sleep>>,
    theirs: Frames,
    ours: Frames,
    pings: Pings,
    /// The farewell has been said; so much came afterwards.
    over: Option<usize>,
}

impl<S> Calm<S> {
    /// Watches `inner`, whose peer has `patience` to say what it speaks.
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Self {
            inner,
            speech: Speech::Unknown(0),
            deadline: Box::pin(tokio::time::sleep(patience)),
            theirs: Frames::default(),
            ours: Frames::default(),
            pings: Pings::default(),
            over: None,
        }
    }

    /// Looks at what the peer sent; false when it has pinged too often.
    fn heard(&mut self, mut bytes: &[u8]) -> bool {
        while let Speech::Unknown(seen) = self.speech {
            let Some((first, rest)) = bytes.split_first() else {
                return true;
            };
            self.speech = match PREFACE.get(seen) == Some(first) {
                false => Speech::Other,
                true if seen + 1 == PREFACE.len() => Speech::Http2,
                true => Speech::Unknown(seen + 1),
            };
            bytes = rest;
        }
        if !matches!(self.speech, Speech::Http2) {
            return true;
        }
        let (pings, mut calm) = (&mut self.pings, true);
        self.theirs.feed(bytes, |kind, flags| {
            if kind == PING && flags & ACK == 0 {
                calm &= pings.come(Instant::now());
            }
        });
        calm
    }

    /// Looks at what was written.
    fn said(&mut self, bytes: &[u8]) {
        if matches!(self.speech, Speech::Http2) {
            let pings = &mut self.pings;
            self.ours.feed(bytes, |kind, _| {
                if matches!(kind, DATA | HEADERS) {
                    pings.answered();
                }
            });
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Calm<S> {
    /// Says why the connection ends, if that is possible at once. In the middle of a frame it would not be understood,
    /// and a peer that reads nothing is not waited for.
    fn farewell(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        tracing::info!("grpc: a connection is ended, its peer pings too often");
        if !self.ours.between() {
            return Err(too_many());
        }
        match Pin::new(&mut self.inner).poll_write(cx, &FAREWELL) {
            Poll::Ready(Ok(written)) if written == FAREWELL.len() => {}
            _ => return Err(too_many()),
        }
        // What is left in a buffer goes with the first look at what comes afterwards.
        let _ = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.deadline.as_mut().reset(Instant::now() + LAST_WORDS);
        self.over = Some(0);
        Ok(())
    }

    /// Reads what comes after the farewell and throws it away, to its end.
    fn afterwards(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            if self.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(too_many()));
            }
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            let so_far = self.over.unwrap_or_default() + count;
            self.over = Some(so_far);
            if count == 0 || so_far > AFTERWARDS {
                return Poll::Ready(Err(too_many()));
            }
        }
    }
}

fn too_many() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the peer pings too often")
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Calm<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.over.is_some() {
            return this.afterwards(cx);
        }
        let before = buffer.filled().len();
        if Pin::new(&mut this.inner).poll_read(cx, buffer)?.is_pending() {
            if matches!(this.speech, Speech::Unknown(_)) && this.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        }
        if this.heard(buffer.filled().get(before..).unwrap_or_default()) {
            return Poll::Ready(Ok(()));
        }
        buffer.set_filled(before);
        this.farewell(cx)?;
        this.afterwards(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Calm<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.over.is_some() {
            // Nobody listens any more.
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.said(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.over.is_some() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            this.said(slice.get(..part).unwrap_or_default());
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const PINGED: &[u8] = b"\0\0\x08\x06\0\0\0\0\0........";
    const ANSWER: &[u8] = b"\0\0\x02\x01\x04\0\0\0\x01..";

    fn pair() -> (DuplexStream, Calm<DuplexStream>) {
        let (theirs, ours) = duplex(64 * 1024);
        (theirs, Calm::new(ours, Duration::from_secs(10)))
    }

    async fn begin() -> (DuplexStream, Calm<DuplexStream>) {
        let (mut peer, calm) = pair();
        peer.write_all(PREFACE).await.unwrap();
        peer.write_all(SETTINGS).await.unwrap();
        (peer, calm)
    }

    /// Reads so much that everything sent so far has been looked at.
    async fn hear(calm: &mut Calm<DuplexStream>, count: usize) -> io::Result<()> {
        let mut bytes = vec![0; count];
        calm.read_exact(&mut bytes).await.map(|_| ())
    }

    #[tokio::test(start_paused = true)]
    async fn pings_in_their_time_are_fine_for_ever() {
        let (mut peer, mut calm) = begin().await;
        hear(&mut calm, PREFACE.len() + SETTINGS.len()).await.unwrap();
        for _ in 0..1000 {
            peer.write_all(PINGED).await.unwrap();
            hear(&mut calm, PINGED.len()).await.unwrap();
            tokio::time::advance(SPACING).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_are_told_so_in_a_frame_of_its_own() {
        let (mut peer, mut calm) = begin().await;
        calm.write_all(SETTINGS).await.unwrap();
        for _ in 0..4 {
            peer.write_all(PINGED).await.unwrap();
        }
        let mut bytes = Vec::new();
        let error = calm.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let mut said = Vec::new();
        drop(calm);
        peer.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, [SETTINGS, &FAREWELL].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_answered_may_ping() {
        let (mut peer, mut calm) = begin().await;
        hear(&mut calm, PREFACE.len() + SETTINGS.len()).await.unwrap();
        for _ in 0..100 {
            peer.write_all(PINGED).await.unwrap();
            hear(&mut calm, PINGED.len()).await.unwrap();
            // In pieces, as they may come.
            for piece in ANSWER.chunks(4) {
                calm.write_all(piece).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_not_waited_for() {
        let (mut peer, mut calm) = pair();
        peer.write_all(&PREFACE[..20]).await.unwrap();
        let mut bytes = Vec::new();
        let error = calm.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn other_protocols_pass() {
        let (mut peer, mut calm) = pair();
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        peer.write_all(&PINGED.repeat(10)).await.unwrap();
        hear(&mut calm, 18 + PINGED.len() * 10).await.unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(peer);
        let mut rest = Vec::new();
        calm.read_to_end(&mut rest).await.unwrap();
    }
}
