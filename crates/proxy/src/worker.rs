//! A worker: its upstream pools, its connections, its accept loops. One per core, each on a runtime of
//! one thread; nothing on the request path is shared between workers but snapshots and counters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::conn::{serve_plain, serve_tls};
use crate::lifecycle::Lifecycle;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::upstream::Pools;

/// Downstream connections of the whole process (spec proxy.md 1.1).
const MAX_CONNECTIONS: usize = 50_000;
/// How often unused upstream connections are looked for.
const SWEEP: Duration = Duration::from_secs(15);
/// Pause after a failed accept: mostly the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One worker.
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) current: Arc<ArcSwap<Snapshot>>,
    pub(crate) pools: Pools,
    pub(crate) lifecycle: Arc<Lifecycle>,
    connections: Arc<AtomicUsize>,
}

/// How accepted sockets are served.
#[derive(Clone)]
pub(crate) enum Serving {
    Plain,
    Tls(Arc<ArcSwap<rustls::ServerConfig>>),
    Redirect,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        current: Arc<ArcSwap<Snapshot>>,
        connections: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        let pools = Pools::new(shared.metrics.clone());
        Arc::new(Self {
            shared,
            current,
            pools,
            lifecycle: Arc::default(),
            connections,
        })
    }

    /// The snapshot in use.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Starts the accept loops and the sweeper on the runtime of the caller.
    pub(crate) fn start(
        self: &Arc<Self>,
        listeners: Vec<(std::net::TcpListener, Serving)>,
    ) -> std::io::Result<()> {
        for (listener, serving) in listeners {
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(accept(self.clone(), listener, serving));
        }
        tokio::spawn(sweep(self.clone()));
        Ok(())
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, serving: &Serving) {
        let metrics = &self.shared.metrics;
        if self.connections.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            metrics.connections_refused.inc();
            return;
        }
        metrics.connections_total.inc();
        metrics.connections.inc();
        let admitted = Admitted(self.clone());
        let _ = socket.set_nodelay(true);
        let Ok(local) = socket.local_addr() else { return };
        let worker = self.clone();
        match serving {
            Serving::Plain => {
                tokio::spawn(async move {
                    serve_plain(worker, socket, (peer, local)).await;
                    drop(admitted);
                });
            }
            Serving::Tls(config) => {
                let acceptor = TlsAcceptor::from(config.load_full());
                tokio::spawn(async move {
                    serve_tls(worker, socket, acceptor, (peer, local)).await;
                    drop(admitted);
                });
            }
            Serving::Redirect => {
                tokio::spawn(async move {
                    crate::listener::redirect::serve(&worker, socket).await;
                    drop(admitted);
                });
            }
        }
    }
}

/// Counts a connection in and out.
struct Admitted(Arc<Worker>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.shared.metrics.connections.dec();
    }
}

async fn accept(worker: Arc<Worker>, listener: TcpListener, serving: Serving) {
    let draining = worker.lifecycle.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => break,
        };
        match accepted {
            Ok((socket, peer)) => worker.admit(socket, peer, &serving),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // What the kernel has already accepted for this listener would be reset: take it along, to be
    // answered and told to go.
    while let Some(Ok((socket, peer))) = listener.accept().now_or_never() {
        worker.admit(socket, peer, &serving);
    }
}

async fn sweep(worker: Arc<Worker>) {
    let mut interval = tokio::time::interval(SWEEP);
    let stopped = worker.lifecycle.stopped.clone();
    loop {
        tokio::select! {
            _ = interval.tick() => worker.pools.sweep(&worker.snapshot().live),
            () = stopped.cancelled() => return,
        }
    }
}
