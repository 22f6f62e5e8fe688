//! Whether HTTP/3 is served, on which socket, and what responses over TCP say about it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;
use pomerium_certs::{Alpn, CertStore};

use super::quic::{self, QuicListener};
use crate::client_tls::{ClientTrusts, TlsConfigs};
use crate::dataplane::StartError;
use crate::snapshot::Snapshot;
use crate::worker::Worker;

/// How long a client may remember that HTTP/3 is served, in seconds.
const REMEMBER: u32 = 86_400;
/// How often a socket is asked for that another process still holds.
const AGAIN: Duration = Duration::from_secs(1);

/// `Alt-Svc` of responses over TCP; none while HTTP/3 is not served.
pub(crate) type AltSvc = Arc<ArcSwapOption<HeaderValue>>;

/// The HTTP/3 side of the main listener.
pub(crate) struct Http3 {
    open: Mutex<Option<Open>>,
    alt_svc: AltSvc,
    certificates: Arc<CertStore>,
    /// Set once: nothing is opened any more.
    closed: AtomicBool,
}

/// A listener with the settings of its handshakes.
struct Open {
    listener: QuicListener,
    tls: TlsConfigs,
}

impl Http3 {
    pub(crate) fn new(alt_svc: AltSvc, certificates: Arc<CertStore>) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            alt_svc,
            certificates,
            closed: AtomicBool::new(false),
        })
    }

    /// The socket that [`Self::settle`] is going to need beside `main`; none when it has that already.
    ///
    /// Errors when it cannot be bound.
    pub(crate) fn bind(&self, main: &[SocketAddr]) -> io::Result<Option<UdpSocket>> {
        let open = self.open.lock();
        if main.is_empty() || open.as_ref().is_some_and(|open| open.listener.serves(main)) {
            return Ok(None);
        }
        quic::bind(main).map(Some)
    }

    /// Serves HTTP/3 beside `main` if `snapshot` says so, and stops to take connections otherwise or when
    /// `main` is empty. Without `socket` it binds one when it needs one.
    ///
    /// Errors when the socket cannot be bound or TLS cannot be set up; what was served before is served on then.
    pub(crate) fn settle(
        &self,
        snapshot: &Snapshot,
        main: &[SocketAddr],
        socket: Option<UdpSocket>,
        workers: &[Arc<Worker>],
    ) -> Result<(), StartError> {
        let mut open = self.open.lock();
        let closed = self.closed.load(Ordering::Relaxed);
        let wanted = snapshot.http3 && !main.is_empty() && !closed;
        if !wanted {
            *open = None;
            self.alt_svc.store(None);
            return Ok(());
        }
        let demands = snapshot.clients.as_ref().map(ClientTrusts::demands);
        let previous = open.as_ref().map(|open| &open.tls);
        let tls = TlsConfigs::build(&self.certificates, Alpn::Http3, demands, previous)?;
        let (choice, idle) = (tls.nameless(), snapshot.timeouts.idle);
        match &mut *open {
            Some(open) if open.listener.serves(main) => {
                open.listener.configure(choice, idle)?;
                open.tls = tls;
                self.announce(snapshot, &open.listener);
            }
            _ => {
                let socket = socket.map_or_else(|| quic::bind(main), Ok)?;
                let listener = QuicListener::start(socket, main, choice, idle, workers)?;
                self.announce(snapshot, &listener);
                *open = Some(Open { listener, tls });
            }
        }
        Ok(())
    }

    /// From now on responses over TCP say where HTTP/3 is.
    fn announce(&self, snapshot: &Snapshot, listener: &QuicListener) {
        let port = snapshot.http3_port.unwrap_or(listener.local_addr().port());
        let value = format!("h3=\":{port}\"; ma={REMEMBER}");
        self.alt_svc
            .store(HeaderValue::try_from(value).ok().map(Arc::new));
    }

    /// As [`Self::settle`], with TCP sockets that were opened by somebody else. A process that is going may still hold the
    /// UDP socket, because its connections live on it: until it is free, people are served over TCP. Without the right to
    /// bind the port they are too; TCP needed none.
    pub(crate) fn settle_after(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        main: &[SocketAddr],
        workers: &[Arc<Worker>],
    ) -> Result<(), StartError> {
        match self.settle(snapshot, main, None, workers) {
            Err(StartError::Io(error)) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(StartError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::error!(%error, "HTTP/3 is not served: let the service manager pass its socket too (ListenDatagram=)");
                return Ok(());
            }
            settled => return settled,
        }
        let Some((runtime, first)) = workers
            .first()
            .and_then(|worker| Some((worker.runtime()?, worker)))
        else {
            return Ok(());
        };
        tracing::info!("HTTP/3 waits for its socket: the process before this one still uses it");
        let (this, worker, main, workers) = (self.clone(), first.clone(), main.to_vec(), workers.to_vec());
        runtime.spawn(async move {
            while worker.lifecycle.running() {
                tokio::time::sleep(AGAIN).await;
                if this.is_open() {
                    return;
                }
                match this.settle(&worker.snapshot(), &main, None, &workers) {
                    Err(StartError::Io(error)) if error.kind() == io::ErrorKind::AddrInUse => {}
                    Err(error) => return tracing::error!(%error, "HTTP/3 is not served"),
                    Ok(()) if this.is_open() => return tracing::info!("HTTP/3 has its socket"),
                    // It is not wanted any more.
                    Ok(()) => return,
                }
            }
        });
        Ok(())
    }

    /// Whether connections are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.open.lock().is_some()
    }

    /// The address of the UDP socket.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.open.lock().as_ref().map(|open| open.listener.local_addr())
    }

    /// Takes no more connections; those that are there go on.
    pub(crate) fn close(&self) {
        let mut open = self.open.lock();
        self.closed.store(true, Ordering::Relaxed);
        *open = None;
        self.alt_svc.store(None);
    }
}
