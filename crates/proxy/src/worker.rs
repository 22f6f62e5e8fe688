//! A worker: its upstream pools, its connections, its accept loops. One per core, each on a runtime of
//! one thread; nothing on the request path is shared between workers but snapshots and counters.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::client_tls::TlsConfigs;
use crate::conn::serve_socket;
use crate::lifecycle::Lifecycle;
use crate::listener::http3::AltSvc;
use crate::live::Live;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::sparing::Sparing;
use crate::upstream::{Pools, Upstreams};

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
    pub(crate) tls: Arc<ArcSwap<TlsConfigs>>,
    pub(crate) pools: Pools,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// Tunnels and streams.
    pub(crate) live: Arc<Live>,
    /// What responses over TCP say about HTTP/3.
    pub(crate) alt_svc: AltSvc,
    /// Log lines about connections that are turned away.
    pub(crate) turned_away: Sparing,
    /// For lines about upstreams that cannot be reached.
    pub(crate) unreachable: Sparing,
    connections: Arc<AtomicUsize>,
    runtime: OnceLock<Handle>,
}

/// How accepted sockets are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serving {
    /// The listener for people: TLS, or plain with `insecure_server`.
    Main,
    /// The plain listener that sends everybody to https.
    Redirect,
    /// The listener for proxies that are not ours.
    Decision,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        current: Arc<ArcSwap<Snapshot>>,
        tls: Arc<ArcSwap<TlsConfigs>>,
        connections: Arc<AtomicUsize>,
        upstreams: Arc<Upstreams>,
        alt_svc: AltSvc,
    ) -> Arc<Self> {
        let pools = Pools::new(upstreams);
        Arc::new(Self {
            shared,
            current,
            tls,
            pools,
            lifecycle: Arc::default(),
            live: Arc::default(),
            alt_svc,
            turned_away: Sparing::default(),
            unreachable: Sparing::default(),
            connections,
            runtime: OnceLock::new(),
        })
    }

    /// The snapshot in use.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes `runtime` the one this worker runs on, and starts the sweeper. Once.
    pub(crate) fn start(self: &Arc<Self>, runtime: Handle) {
        runtime.spawn(sweep(self.clone()));
        let _ = self.runtime.set(runtime);
    }

    /// Accepts from `listener` until the worker drains or `closing` is cancelled. From any thread.
    ///
    /// Errors when the socket cannot be watched.
    pub(crate) fn listen(
        self: &Arc<Self>,
        listener: std::net::TcpListener,
        serving: Serving,
        closing: CancellationToken,
    ) -> std::io::Result<()> {
        let runtime = self.runtime.get().ok_or(std::io::ErrorKind::NotConnected)?;
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        // Not empty before it has taken along what waits in its queue.
        let open = self.lifecycle.enter();
        let accepting = accept(self.clone(), listener, serving, closing);
        runtime.spawn(accepting.map(move |()| drop(open)));
        Ok(())
    }

    /// The runtime it lives on, once it has been started.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// Counts a connection in until the guard goes; `None` at the cap.
    pub(crate) fn admitted(self: &Arc<Self>, peer: SocketAddr) -> Option<Admitted> {
        let metrics = &self.shared.metrics;
        if self.connections.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            metrics.connections_refused.inc();
            if let Some(left_out) = self.turned_away.line() {
                tracing::warn!(%peer, left_out, "too many connections: this one is closed");
            }
            return None;
        }
        metrics.connections_total.inc();
        metrics.connections.inc();
        Some(Admitted(self.clone()))
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, serving: Serving) {
        let Some(admitted) = self.admitted(peer) else {
            return;
        };
        let open = self.lifecycle.enter();
        let _ = socket.set_nodelay(true);
        let worker = self.clone();
        tokio::spawn(async move {
            serve_socket(worker, socket, peer, serving).await;
            drop((open, admitted));
        });
    }
}

#[cfg(test)]
impl Worker {
    /// As if all connections but `left` were open.
    pub(crate) fn fill(&self, left: usize) {
        self.connections.store(MAX_CONNECTIONS - left, Ordering::Release);
    }
}

/// Counts a connection in and out.
pub(crate) struct Admitted(Arc<Worker>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.shared.metrics.connections.dec();
    }
}

async fn accept(worker: Arc<Worker>, listener: TcpListener, serving: Serving, closing: CancellationToken) {
    let draining = worker.lifecycle.draining.clone();
    let failed = Sparing::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => break,
            () = closing.cancelled() => break,
        };
        match accepted {
            Ok((socket, peer)) => worker.admit(socket, peer, serving),
            Err(error) => {
                if let Some(left_out) = failed.line() {
                    tracing::warn!(%error, left_out, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // What the kernel has already accepted for this listener would be reset: take it along, to be
    // answered and told to go.
    while let Some(Ok((socket, peer))) = listener.accept().now_or_never() {
        worker.admit(socket, peer, serving);
    }
}

async fn sweep(worker: Arc<Worker>) {
    let mut interval = tokio::time::interval(SWEEP);
    let stopped = worker.lifecycle.stopped.clone();
    loop {
        tokio::select! {
            _ = interval.tick() => worker.pools.sweep(),
            () = stopped.cancelled() => return,
        }
    }
}
