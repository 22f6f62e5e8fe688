//! Carrying bytes both ways between two streams. Between two reads a tunnel holds nothing: what is read goes through a
//! buffer that all tunnels of a thread share, and only what the other side does not take at once is kept. So an idle
//! WebSocket costs no buffers, however many there are.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one read takes at most.
const BUFFER: usize = 32 * 1024;
/// Reads of one direction before others have their turn.
const TURN: usize = 16;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A tunnel under way.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    up: Direction,
    down: Direction,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    /// Bytes that were read and not taken yet, from `at` on.
    held: Vec<u8>,
    at: usize,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The reader has ended: once everything is written, the writer is told.
    ended: bool,
    done: bool,
    carried: u64,
}

impl Tunnel {
    /// Carries on until both sides have ended; then the bytes from `a` to `b`, and from `b` to `a`.
    ///
    /// Errors when either side breaks off.
    pub(super) fn poll<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        a: &mut A,
        b: &mut B,
    ) -> Poll<io::Result<(u64, u64)>>
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let up = self.up.poll(cx, a, b)?;
        let down = self.down.poll(cx, b, a)?;
        if up.is_pending() || down.is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Ok((self.up.carried, self.down.carried)))
    }
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURN {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_held(cx, to))?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.done = true;
                continue;
            }
            if self.poll_through(cx, from, to)?.is_pending() {
                return self.poll_flush(cx, to);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what was kept.
    fn poll_held<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.at..).filter(|rest| !rest.is_empty()) {
            let written = ready!(write(cx, to, rest))?;
            self.at += written;
            self.wrote(written);
        }
        if self.at > 0 {
            // Given back: it may be long until there is something to keep again.
            self.held = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes it on; pending when there is nothing to read.
    fn poll_through<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SHARED.with_borrow_mut(|shared| {
            let mut buffer = ReadBuf::new(shared);
            ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
            let mut rest = buffer.filled();
            self.ended = rest.is_empty();
            while !rest.is_empty() {
                match write(cx, to, rest)? {
                    Poll::Ready(written) => {
                        rest = &rest[written..];
                        self.wrote(written);
                    }
                    Poll::Pending => {
                        self.held.extend_from_slice(rest);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Before it waits for more: what the other side has not seen yet must not wait with it.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    fn wrote(&mut self, bytes: usize) {
        self.carried += bytes as u64;
        self.unflushed = true;
    }
}

/// A write that takes nothing would be tried for ever.
fn write<W: AsyncWrite + Unpin>(cx: &mut Context<'_>, to: &mut W, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// What became of a tunnel, and how much room it kept.
    type Ended = tokio::task::JoinHandle<(io::Result<(u64, u64)>, usize)>;

    /// The far ends of a tunnel, and the tunnel.
    fn tunnel() -> (DuplexStream, DuplexStream, Ended) {
        let (client, mut a) = duplex(1000);
        let (upstream, mut b) = duplex(700);
        let task = tokio::spawn(async move {
            let mut tunnel = Tunnel::default();
            let ended = poll_fn(|cx| tunnel.poll(cx, &mut a, &mut b)).await;
            (ended, tunnel.up.held.capacity() + tunnel.down.held.capacity())
        });
        (client, upstream, task)
    }

    #[tokio::test]
    async fn bytes_arrive_whole_both_ways_past_a_slow_reader_and_nothing_is_kept() {
        let (client, upstream, task) = tunnel();
        let (mut client_reads, mut client_writes) = tokio::io::split(client);
        let (mut upstream_reads, mut upstream_writes) = tokio::io::split(upstream);
        let up: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let down: Vec<u8> = up.iter().rev().copied().collect();
        let send = async {
            client_writes.write_all(&up).await?;
            client_writes.shutdown().await
        };
        let back = async {
            upstream_writes.write_all(&down).await?;
            upstream_writes.shutdown().await
        };
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let all = tokio::join!(
            send,
            back,
            upstream_reads.read_to_end(&mut got_up),
            client_reads.read_to_end(&mut got_down)
        );
        all.0.unwrap();
        all.1.unwrap();
        assert!(got_up == up && got_down == down);
        let (ended, kept) = task.await.unwrap();
        assert_eq!(ended.unwrap(), (200_000, 200_000));
        assert_eq!(kept, 0);
    }

    #[tokio::test]
    async fn the_end_of_one_side_is_told_and_the_other_goes_on() {
        let (mut client, mut upstream, task) = tunnel();
        client.write_all(b"bye").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        upstream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"bye");
        upstream.write_all(b"still here").await.unwrap();
        drop(upstream);
        got.clear();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"still here");
        assert_eq!(task.await.unwrap().0.unwrap(), (3, 10));
    }

    #[tokio::test]
    async fn a_side_that_breaks_ends_the_tunnel() {
        let (mut client, upstream, task) = tunnel();
        drop(upstream);
        client.write_all(&[0; 100]).await.unwrap();
        let ended = task.await.unwrap().0;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
