//! What an HTTP/1.1 upstream may not do although the library would let it: talk on without ever
//! answering, and frame an answer in a way that two readers could read differently. And what it may do
//! although the library would not let it: answer and close before it has read the whole request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// Bytes an upstream may send before its answer: the largest header block twice. Informational answers
/// (100, 102, 103) are read and dropped, so nothing else would bound how many there are.
const BEFORE_ANSWER: usize = 256 * 1024;
/// Bytes read in one go. The library doubles its buffer as long as reads fill it, and an unused connection keeps what it
/// has: without this each that has carried a large body once would hold hundreds of kilobytes.
const READ: u64 = 32 * 1024;

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    /// [`BEFORE_ANSWER`] was used up.
    #[error("too much was sent before the answer")]
    NoAnswer,
    /// Not exactly one framing.
    #[error("the framing of the answer can be read in two ways")]
    Framing,
    /// A new connection began with bytes of the upstream: another protocol than HTTP/1.1 is spoken there.
    #[error("it spoke before it was asked; is HTTP/1.1 spoken there?")]
    Unasked,
}

/// Counts what comes while an answer is waited for, on a new connection from the beginning.
#[derive(Debug)]
pub(super) struct Budget {
    waiting: AtomicBool,
    read: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            waiting: AtomicBool::new(true),
            read: AtomicUsize::new(0),
        }
    }
}

impl Budget {
    /// A request goes out.
    pub(super) fn begin(&self) {
        if !self.waiting.swap(true, Ordering::Relaxed) {
            self.read.store(0, Ordering::Relaxed);
        }
    }

    /// Whether anything came since the last answer.
    pub(super) fn has_spoken(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.read.load(Ordering::Relaxed) > 0
    }

    /// Its answer is here: the body may be of any length.
    pub(super) fn end(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    fn used_up(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.read.load(Ordering::Relaxed) > BEFORE_ANSWER
    }

    fn add(&self, bytes: usize) {
        if self.waiting.load(Ordering::Relaxed) {
            self.read.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// A stream that fails when the budget is used up, and that can still be read when the upstream takes no
/// more: a server may answer early and close (RFC 9112 9.6), and the library gives up a connection at the
/// first failed write. What is written then goes nowhere; reading tells how the connection ends.
pub(super) struct Bounded<S> {
    inner: Take<S>,
    budget: Arc<Budget>,
    deaf: bool,
}

impl<S: AsyncRead> Bounded<S> {
    pub(super) fn new(inner: S, budget: Arc<Budget>) -> Self {
        Self {
            inner: inner.take(READ),
            budget,
            deaf: false,
        }
    }

    /// The outcome of writing `length` bytes: of all of them, once the upstream has closed.
    fn wrote(&mut self, polled: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if is_closed(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(length))
            }
            polled => polled,
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.budget.used_up() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Doubt::NoAnswer)));
        }
        let before = buf.filled().len();
        self.inner.set_limit(READ);
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.budget.add(buf.filled().len() - before);
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(self.inner.get_mut()).poll_write(cx, buf);
        self.wrote(polled, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(self.inner.get_mut()).poll_write_vectored(cx, bufs);
        self.wrote(polled, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(self.inner.get_mut()).poll_flush(cx).map_ok(|()| 0);
        self.wrote(polled, 0).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }
}

/// Exactly one framing: a length, or a single `chunked` of HTTP/1.1, or neither. The library reads
/// chunks beside a length, and an unknown coding to the end of the connection; a reader before or behind
/// us may not (RFC 9112 6.3).
pub(super) fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), Doubt> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    let single = codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if single && version == Version::HTTP_11 && !headers.contains_key(CONTENT_LENGTH) {
        Ok(())
    } else {
        Err(Doubt::Framing)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn only_what_comes_before_the_answer_counts() {
        let endless = tokio::io::repeat(b'x');
        let budget = Arc::new(Budget::default());
        let mut stream = Bounded::new(endless, budget.clone());
        budget.end();
        let mut block = vec![0; BEFORE_ANSWER];
        for _ in 0..4 {
            stream.read_exact(&mut block).await.unwrap();
        }
        for _ in 0..2 {
            budget.begin();
            stream.read_exact(&mut block).await.unwrap();
            budget.end();
            stream.read_exact(&mut block).await.unwrap();
        }
        budget.begin();
        stream.read_exact(&mut block).await.unwrap();
        stream.read_u8().await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(
            error.get_ref().and_then(|inner| inner.downcast_ref()),
            Some(&Doubt::NoAnswer)
        );
    }

    #[tokio::test]
    async fn no_read_fills_a_large_buffer() {
        let mut stream = Bounded::new(tokio::io::repeat(b'x'), Arc::default());
        let mut block = vec![0; 8 * READ as usize];
        assert_eq!(stream.read(&mut block).await.unwrap() as u64, READ);
        assert_eq!(stream.read(&mut block[..7]).await.unwrap(), 7);
        assert_eq!(stream.read(&mut block).await.unwrap() as u64, READ);
    }

    #[tokio::test]
    async fn an_upstream_that_takes_no_more_can_still_be_read() {
        use tokio::io::AsyncWriteExt;
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = Bounded::new(ours, Arc::default());
        theirs.write_all(b"answer").await.unwrap();
        drop(theirs);
        for part in ["head", "body"] {
            stream.write_all(part.as_bytes()).await.unwrap();
        }
        stream.flush().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    }

    #[test]
    fn a_new_connection_counts_from_its_beginning() {
        let budget = Budget::default();
        assert!(!budget.has_spoken());
        budget.add(3);
        budget.begin();
        assert!(budget.has_spoken());
        budget.end();
        budget.begin();
        assert!(!budget.has_spoken());
    }

    #[test]
    fn one_framing_or_none() {
        let check = |version, fields: &[(http::HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, HeaderValue::from_static(value));
            }
            check_framing(version, &headers).is_ok()
        };
        let new = Version::HTTP_11;
        assert!(check(new, &[]) && check(new, &[(CONTENT_LENGTH, "5")]));
        assert!(check(new, &[(TRANSFER_ENCODING, "Chunked")]));
        assert!(!check(Version::HTTP_10, &[(TRANSFER_ENCODING, "chunked")]));
        assert!(!check(
            new,
            &[(TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "5")]
        ));
        assert!(!check(
            new,
            &[(TRANSFER_ENCODING, "chunked"), (TRANSFER_ENCODING, "chunked")]
        ));
        for odd in [
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "identity",
            "",
            "xchunked",
        ] {
            assert!(!check(new, &[(TRANSFER_ENCODING, odd)]), "{odd}");
        }
    }
}
