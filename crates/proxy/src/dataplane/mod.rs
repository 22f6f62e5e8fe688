//! The whole data plane as one handle: start, reload, drain, stop. Its sockets are in [`listeners`].

mod listeners;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pomerium_authorize::Principal;
use pomerium_certs::{Alpn, CertStore};
use pomerium_config::settings::Codec;

use self::listeners::{Listening, Opened, decision_error};
use crate::client_tls::TlsConfigs;
use crate::decision::Authorizer;
use crate::listener::Handed;
use crate::listener::group::{Bound, Group};
use crate::listener::http3::{AltSvc, Http3};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::upstream::Upstreams;
use crate::worker::{Serving, Worker};

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of the main listener; an empty host is every address, port 0 a free one. `None`: nobody is served.
    pub address: Option<String>,
    /// `host:port` of the plain listener that redirects to https.
    pub redirect_address: Option<String>,
    /// `host:port` of the listener for other proxies.
    pub decision_address: Option<String>,
    /// Worker threads, each with its own runtime and sockets. 0: one worker on the caller's runtime.
    pub workers: usize,
}

/// Why the data plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on, or a thread not be started.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The listener for other proxies cannot be opened: they would all refuse everybody.
    #[error("decision_listener.address: cannot listen on {address}: {error}")]
    Decision {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

pub use listeners::Relisten;

/// A running data plane. Dropping it stops it hard.
pub struct Dataplane {
    current: Arc<ArcSwap<Snapshot>>,
    tls: Arc<ArcSwap<TlsConfigs>>,
    certificates: Arc<CertStore>,
    shared: Arc<Shared>,
    upstreams: Arc<Upstreams>,
    workers: Vec<Arc<Worker>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    listening: Mutex<Listening>,
    http3: Arc<Http3>,
}

#[cfg(test)]
impl Dataplane {
    pub(crate) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }
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
        Self::start_with(options, &Handed::default(), snapshot, certificates, shared)
    }

    /// As [`Self::start`], with sockets that are open already in the place of their addresses.
    pub fn start_with(
        options: &Options,
        handed: &Handed,
        snapshot: Arc<Snapshot>,
        certificates: Arc<CertStore>,
        shared: Arc<Shared>,
    ) -> Result<Self, StartError> {
        let sets = options.workers.max(1);
        let tls = Arc::new(ArcSwap::from_pointee(tls_configs(
            &certificates,
            &snapshot,
            None,
        )?));
        let bound = |setting: &str, sockets: &[std::net::TcpListener]| {
            if sockets.is_empty() {
                Bound::new(setting, sets, &[])
            } else {
                Bound::handed(setting, sets, sockets)
            }
        };
        let main = options
            .address
            .as_ref()
            .map(|address| bound(address, &handed.main))
            .transpose()?;
        // A convenience for people who type http: without it everything else works (spec config.md 8.1).
        let redirect = match &options.redirect_address {
            Some(address) => bound(address, &handed.redirect).map_or_else(
                |error| {
                    tracing::error!(%error, "http_redirect_addr: nobody is redirected from http");
                    None
                },
                Some,
            ),
            None => None,
        };
        let decision = match &options.decision_address {
            Some(address) => {
                Some(bound(address, &handed.decision).map_err(|error| decision_error(address, error))?)
            }
            None => None,
        };
        let upstreams = Upstreams::new(
            shared.control_runtime.clone(),
            shared.metrics.clone(),
            &snapshot.upstreams,
        );
        upstreams.adopt(&snapshot.upstreams, snapshot.clusters());
        shared.sessions.set_groups_claim(&snapshot.groups_claim);
        shared.sessions.set_any_provider(snapshot.any_provider);
        let current = Arc::new(ArcSwap::new(snapshot));
        let connections = Arc::new(AtomicUsize::new(0));
        let alt_svc = AltSvc::default();
        let workers: Vec<_> = (0..sets)
            .map(|_| {
                Worker::new(
                    shared.clone(),
                    current.clone(),
                    tls.clone(),
                    connections.clone(),
                    upstreams.clone(),
                    alt_svc.clone(),
                )
            })
            .collect();
        let http3 = Http3::new(alt_svc, certificates.clone());
        let dataplane = Self {
            current,
            tls,
            certificates,
            shared,
            upstreams,
            workers,
            threads: Mutex::default(),
            listening: Mutex::default(),
            http3,
        };
        dataplane.launch(options.workers == 0)?;
        let main = main
            .map(|main| main.open(&dataplane.workers, Serving::Main))
            .transpose()?;
        let redirect = redirect
            .map(|redirect| redirect.open(&dataplane.workers, Serving::Redirect))
            .transpose()?;
        let decision = decision
            .map(|decision| decision.open(&dataplane.workers, Serving::Decision))
            .transpose()?;
        let (http3, snapshot) = (&dataplane.http3, dataplane.snapshot());
        if let Some(main) = &main {
            let udp = handed.udp.as_ref().map(UdpSocket::try_clone).transpose()?;
            if handed.main.is_empty() || udp.is_some() {
                http3.settle(&snapshot, main.addresses(), udp, &dataplane.workers)?;
            } else {
                http3.settle_after(&snapshot, main.addresses(), &dataplane.workers)?;
            }
        }
        *dataplane.listening.lock() = Listening::new(main, redirect, decision);
        Ok(dataplane)
    }

    fn launch(&self, ambient: bool) -> io::Result<()> {
        for (number, worker) in self.workers.iter().enumerate() {
            if ambient {
                worker.start(tokio::runtime::Handle::current());
                continue;
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            worker.start(runtime.handle().clone());
            let stopped = worker.lifecycle.stopped.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(stopped.cancelled()))?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    /// The address of the UDP socket of HTTP/3, while it is served.
    pub fn http3_addr(&self) -> Option<SocketAddr> {
        self.http3.local_addr()
    }

    /// Answers the questions of other services of this installation.
    pub fn authorizer(&self) -> Authorizer {
        Authorizer::new(self.workers.clone())
    }

    /// The snapshot in use.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Takes a new snapshot into use: for the next request of every connection. No connection is
    /// touched, running requests go on as they began. Tunnels and streams end when their route is gone or does
    /// not admit their people any more. A changed list of HTTP versions, and changed demands for client
    /// certificates, count from the next handshake; a request over an older connection is told to come again where
    /// that connection was not asked for what its host now demands.
    ///
    /// Errors when TLS or HTTP/3 cannot be set up; the old snapshot stays then.
    pub fn reload(&self, snapshot: Arc<Snapshot>) -> Result<(), StartError> {
        self.reload_with(snapshot, Relisten::default())
    }

    /// As [`Self::reload`]; from then on the listeners of `next` accept, and those they replace do not.
    ///
    /// Errors as there, and when a socket cannot be watched; then everything stays as it was.
    pub fn reload_with(&self, snapshot: Arc<Snapshot>, next: Relisten) -> Result<(), StartError> {
        let previous = self.tls.load_full();
        let tls = tls_configs(&self.certificates, &snapshot, Some(&previous))?;
        let mut listening = self.listening.lock();
        let mut opened = next.open(&self.workers)?;
        if !listening.is_closed() {
            self.settle_http3(&snapshot, &listening, &mut opened)?;
            listening.replace(opened);
        }
        drop(listening);
        self.tls.store(Arc::new(tls));
        self.upstreams.adopt(&snapshot.upstreams, snapshot.clusters());
        self.shared.sessions.set_groups_claim(&snapshot.groups_claim);
        self.shared.sessions.set_any_provider(snapshot.any_provider);
        let old = self.current.swap(snapshot);
        let snapshot = self.snapshot();
        self.shared.metrics.reloads.inc();
        let now = self.shared.clock.now();
        for worker in &self.workers {
            worker.live.changed(&snapshot, &self.shared.sessions, now);
        }
        // Idle connections to upstreams that no route has any more end now.
        drop(old);
        for worker in &self.workers {
            worker.pools.sweep();
        }
        Ok(())
    }

    /// HTTP/3 as `snapshot` says, beside the main listener as it will be. What should be served already and is not, because
    /// another process has the socket or it may not be bound, is no reason to refuse everything else.
    fn settle_http3(
        &self,
        snapshot: &Snapshot,
        listening: &Listening,
        opened: &mut Opened,
    ) -> Result<(), StartError> {
        let udp = opened.udp.take();
        let current = || listening.main.as_ref().map_or(&[][..], Group::addresses);
        let addresses = opened.main().unwrap_or_else(current);
        let settled = self.http3.settle(snapshot, addresses, udp, &self.workers);
        let wanted_before = opened.main().is_none() && self.snapshot().http3;
        match settled {
            Err(StartError::Io(error)) if wanted_before && is_another_s(&error) => {
                tracing::error!(%error, "codec_type: HTTP/3 stays as it was");
                Ok(())
            }
            settled => settled,
        }
    }

    /// Judges tunnels and streams again by the records as they are now, and ends those that would not begin any more.
    pub fn records_changed(&self) {
        let (snapshot, now) = (self.snapshot(), self.shared.clock.now());
        for worker in &self.workers {
            worker.live.changed(&snapshot, &self.shared.sessions, now);
        }
    }

    /// Ends the tunnels and streams of people of whom `lost` says that they may not go on.
    pub fn people_changed(&self, lost: &dyn Fn(&Principal) -> bool) {
        for worker in &self.workers {
            worker.live.people_changed(lost);
        }
    }

    /// Ends tunnels and streams that may not go on because of the time.
    pub fn time_passed(&self) {
        let (snapshot, now) = (self.snapshot(), self.shared.clock.now());
        for worker in &self.workers {
            worker.live.time_passed(&snapshot, &self.shared.sessions, now);
        }
    }

    /// Soft stop: closes the listeners, tells every connection to finish (GOAWAY, `Connection: close`)
    /// and waits until they and the tunnels have ended, at most `grace`. True when nothing is left.
    pub async fn drain(&self, grace: Duration) -> bool {
        // Our own handles on the sockets: as long as one is open, people connect and wait for nobody.
        drop(std::mem::replace(
            &mut *self.listening.lock(),
            Listening::closed(),
        ));
        self.http3.close();
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

/// Whether somebody else has the address, or the right to it.
fn is_another_s(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

fn tls_configs(
    certificates: &Arc<CertStore>,
    snapshot: &Snapshot,
    previous: Option<&TlsConfigs>,
) -> Result<TlsConfigs, rustls::Error> {
    let demands = snapshot.clients.as_ref().map(|clients| clients.demands());
    TlsConfigs::build(certificates, alpn(snapshot.codec), demands, previous)
}

/// HTTP/3 is offered on UDP; on TCP it changes nothing.
fn alpn(codec: Codec) -> Alpn {
    match codec {
        Codec::Auto | Codec::Http3 => Alpn::Auto,
        Codec::Http1 => Alpn::Http1,
        Codec::Http2 => Alpn::Http2,
    }
}
