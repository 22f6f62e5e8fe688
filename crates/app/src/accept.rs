//! The one loop of the listeners beside the workers': each connection in a task of its own, not more than so many of
//! them, none beyond the end of the process.

use std::future::Future;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pomerium_proxy::Sparing;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long nothing is accepted after that failed. Most likely too many files are open: trying at once would only
/// burn a core.
const PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: Send + 'static;

    /// Waits for the next one. Errors are those of the system call; the next call may succeed.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Whose connections these are, and how many there may be at a time; what comes on top is closed.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// The listener's name in the log.
    pub name: &'static str,
    /// Most connections at a time.
    pub most: usize,
    /// How long a connection that is open at the end may take to end by itself; then it is cut.
    pub parting: Duration,
}

/// Accepts until `stop`, and returns when the connections that are open then have ended. `connection` serves one of them.
pub async fn serve<L, C, F>(door: Door, listener: L, stop: CancellationToken, connection: C)
where
    L: Listener,
    C: Fn(L::Stream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(door.most));
    let (refused, failed) = (Sparing::default(), Sparing::default());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.next() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                if let Some(left_out) = failed.line() {
                    tracing::warn!(%error, listener = door.name, left_out, "accepting a connection failed");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            if let Some(left_out) = refused.line() {
                tracing::warn!(
                    listener = door.name,
                    most = door.most,
                    left_out,
                    "a connection is refused, there are too many"
                );
            }
            continue;
        };
        let (served, stop) = (connection(stream), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = served => {}
                () = parted(&stop, door.parting) => {}
            }
            drop(slot);
        });
    }
    drop(listener);
    // Each connection holds one.
    let all = u32::try_from(door.most).unwrap_or_default();
    let _ = slots.acquire_many(all).await;
}

/// Completes when `stop` was `parting` ago.
async fn parted(stop: &CancellationToken, parting: Duration) {
    stop.cancelled().await;
    if !parting.is_zero() {
        tokio::time::sleep(parting).await;
    }
}

/// For lines about handshakes.
static HANDSHAKES: LazyLock<Sparing> = LazyLock::new(Sparing::default);

/// The TLS handshake on `stream`, which may take `patience`. Says in the log why there was none.
pub async fn secured(
    door: Door,
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    patience: Duration,
) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(patience, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => {
            if let Some(left_out) = HANDSHAKES.line() {
                tracing::info!(%error, listener = door.name, left_out, "a TLS handshake failed");
            }
        }
        Err(_) => tracing::debug!(listener = door.name, "a TLS handshake took too long"),
    }
    None
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::*;

    const DOOR: Door = Door {
        name: "test",
        most: 1,
        parting: Duration::ZERO,
    };

    async fn echo(mut stream: TcpStream) {
        let (mut reading, mut writing) = stream.split();
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    }

    async fn echoes(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok()
    }

    #[tokio::test]
    async fn no_more_than_so_many_and_none_after_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(DOOR, listener, stop.clone(), echo));
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(echoes(&mut first).await);
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(!echoes(&mut second).await);
        assert!(echoes(&mut first).await);
        stop.cancel();
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_end_waits_for_connections_that_may_part() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let door = Door {
            parting: Duration::from_secs(60),
            ..DOOR
        };
        let mut serving = tokio::spawn(serve(door, listener, stop.clone(), echo));
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(echoes(&mut first).await);
        stop.cancel();
        assert!(echoes(&mut first).await);
        assert!((&mut serving).now_or_never().is_none());
        drop(first);
        serving.await.unwrap();
    }

    /// Fails before the first connection.
    struct Faulty(TcpListener, tokio::sync::Mutex<mpsc::Receiver<io::Error>>);

    impl Listener for Faulty {
        type Stream = TcpStream;

        async fn next(&self) -> io::Result<TcpStream> {
            match self.1.lock().await.try_recv() {
                Ok(error) => Err(error),
                Err(_) => self.0.next().await,
            }
        }
    }

    #[tokio::test]
    async fn goes_on_after_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fail, failures) = mpsc::channel(1);
        fail.send(io::Error::other("too many open files")).await.unwrap();
        let faulty = Faulty(listener, failures.into());
        tokio::spawn(serve(DOOR, faulty, CancellationToken::new(), echo));
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(echoes(&mut stream).await);
    }
}
