//! The whole data plane as one handle: start, reload, drain, stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pomerium_certs::{Alpn, CertStore, server_config};
use pomerium_config::settings::Codec;

use crate::listener::bind::bind;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::worker::{Serving, Worker};

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of the main listener; an empty host is every address, port 0 a free one.
    pub address: String,
    /// Plain HTTP on the main listener.
    pub insecure: bool,
    /// `host:port` of the plain listener that redirects to https.
    pub redirect_address: Option<String>,
    /// Worker threads, each with its own runtime and sockets. 0: one worker on the caller's runtime.
    pub workers: usize,
}

/// Why the data plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on, or a thread not be started.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A running data plane. Dropping it stops it hard.
pub struct Dataplane {
    current: Arc<ArcSwap<Snapshot>>,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    certificates: Arc<CertStore>,
    shared: Arc<Shared>,
    workers: Vec<Arc<Worker>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    main: Vec<SocketAddr>,
    redirect: Vec<SocketAddr>,
}

impl Dataplane {
    /// Binds the listeners and starts the workers. With `workers: 0` it must be called on a runtime.
    ///
    /// Errors when an address cannot be bound; nothing is left running then.
    pub fn start(
        options: &Options,
        snapshot: Arc<Snapshot>,
        certificates: Arc<CertStore>,
        shared: Arc<Shared>,
    ) -> Result<Self, StartError> {
        let sets = options.workers.max(1);
        let tls = Arc::new(ArcSwap::from_pointee(server_config(
            certificates.clone(),
            alpn(snapshot.codec),
        )?));
        let serving = if options.insecure {
            Serving::Plain
        } else {
            Serving::Tls(tls.clone())
        };
        let (main, mut sockets) = listeners(&options.address, sets, &serving)?;
        let mut redirect = Vec::new();
        if let Some(address) = &options.redirect_address {
            // A convenience for people who type http: without it everything else works (spec config.md 8.1).
            match listeners(address, sets, &Serving::Redirect) {
                Ok((bound, more)) => {
                    redirect = bound;
                    for (set, more) in sockets.iter_mut().zip(more) {
                        set.extend(more);
                    }
                }
                Err(error) => tracing::error!(%error, "http_redirect_addr: nobody is redirected from http"),
            }
        }
        let current = Arc::new(ArcSwap::new(snapshot));
        let connections = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..sets)
            .map(|_| Worker::new(shared.clone(), current.clone(), connections.clone()))
            .collect();
        let dataplane = Self {
            current,
            tls,
            certificates,
            shared,
            workers,
            threads: Mutex::default(),
            main,
            redirect,
        };
        dataplane.launch(sockets, options.workers == 0)?;
        Ok(dataplane)
    }

    fn launch(
        &self,
        sockets: Vec<Vec<(std::net::TcpListener, Serving)>>,
        ambient: bool,
    ) -> Result<(), StartError> {
        for (number, (worker, sockets)) in self.workers.iter().zip(sockets).enumerate() {
            if ambient {
                worker.start(sockets)?;
                continue;
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let worker = worker.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(async {
                        if let Err(error) = worker.start(sockets) {
                            tracing::error!(%error, "a worker cannot listen");
                        }
                        worker.lifecycle.stopped.cancelled().await;
                    });
                })?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    /// Addresses of the main listener.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.main
    }

    /// Addresses of the redirect listener.
    pub fn redirect_addrs(&self) -> &[SocketAddr] {
        &self.redirect
    }

    /// The snapshot in use.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Takes a new snapshot into use: for the next request of every connection. No connection is
    /// touched, running requests and tunnels go on as they began. A changed list of HTTP versions counts
    /// from the next handshake.
    ///
    /// Errors when TLS cannot be set up; the old snapshot stays then.
    pub fn reload(&self, snapshot: Arc<Snapshot>) -> Result<(), StartError> {
        if self.current.load().codec != snapshot.codec {
            self.tls.store(Arc::new(server_config(
                self.certificates.clone(),
                alpn(snapshot.codec),
            )?));
        }
        self.current.store(snapshot);
        self.shared.metrics.reloads.inc();
        Ok(())
    }

    /// Soft stop: closes the listeners, tells every connection to finish (GOAWAY, `Connection: close`)
    /// and waits until they and the tunnels have ended, at most `grace`. True when nothing is left.
    pub async fn drain(&self, grace: Duration) -> bool {
        for worker in &self.workers {
            worker.lifecycle.drain();
        }
        let emptied = async {
            for worker in &self.workers {
                worker.lifecycle.emptied().await;
            }
        };
        tokio::time::timeout(grace, emptied).await.is_ok()
    }

    /// Hard stop: cuts everything and waits for the worker threads.
    pub fn stop(&self) {
        for worker in &self.workers {
            worker.lifecycle.stop();
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.stop();
    }
}

type Sockets = Vec<Vec<(std::net::TcpListener, Serving)>>;

fn listeners(address: &str, sets: usize, serving: &Serving) -> io::Result<(Vec<SocketAddr>, Sockets)> {
    let (bound, sets) = bind(address, sets)?;
    let with =
        |set: Vec<std::net::TcpListener>| set.into_iter().map(|socket| (socket, serving.clone())).collect();
    Ok((bound, sets.into_iter().map(with).collect()))
}

/// HTTP/3 is offered on UDP; on TCP it changes nothing.
fn alpn(codec: Codec) -> Alpn {
    match codec {
        Codec::Auto | Codec::Http3 => Alpn::Auto,
        Codec::Http1 => Alpn::Http1,
        Codec::Http2 => Alpn::Http2,
    }
}
