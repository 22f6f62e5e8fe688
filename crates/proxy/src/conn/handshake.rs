//! The TLS handshake: which settings it gets, and what is told when a client certificate is refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pomerium_certs::acme::Challenges;
use pomerium_certs::client::{CertificateNames, Refused, Verdict};
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsAcceptor};

use crate::client_tls::{Choice, ClientTls};
use crate::worker::Worker;

/// A finished handshake. The second is there when the client was asked for a certificate.
pub(super) type Secured = (TlsStream<TcpStream>, Option<Arc<ClientTls>>);

/// Takes a client through the handshake. `None`: it was a certificate authority, and it has seen its challenge
/// certificate (spec proxy.md 1.2).
///
/// Where no host asks for certificates, the settings are known beforehand. Otherwise the whole ClientHello is read
/// first, in however many pieces it comes.
pub(super) async fn accept(
    worker: &Worker,
    socket: TcpStream,
    peer: SocketAddr,
) -> io::Result<Option<Secured>> {
    let configs = worker.tls.load_full();
    let challenged = worker.shared.challenges.is_awaited();
    if let Some(config) = configs.uniform().filter(|_| !challenged) {
        let stream = TlsAcceptor::from(Arc::clone(config)).accept(socket).await?;
        return Ok(Some((stream, None)));
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    if challenged && Challenges::is_challenge(&start.client_hello()) {
        show_challenge(worker, start).await?;
        return Ok(None);
    }
    if let Some(config) = configs.uniform() {
        return Ok(Some((start.into_stream(Arc::clone(config)).await?, None)));
    }
    let name = start.client_hello().server_name().map(str::to_owned);
    let Choice { config, demand } = configs.choose(name.as_deref());
    let Some(demand) = demand else {
        return Ok(Some((start.into_stream(config).await?, None)));
    };
    let (config, refused) = if demand.is_strict() {
        let (config, refused) = demand.noting(&config).map_err(io::Error::other)?;
        (Arc::new(config), Some(refused))
    } else {
        (config, None)
    };
    let story = Story {
        worker,
        peer,
        name: name.as_deref(),
    };
    let stream = match start.into_stream(config).await {
        Ok(stream) => stream,
        Err(error) => {
            story.failed(refused.as_ref(), &error);
            return Err(error);
        }
    };
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let client = ClientTls::presented(demand, shown);
    story.judge(&client)?;
    Ok(Some((stream, Some(Arc::new(client)))))
}

/// Shows the certificate of a challenge in flight, and ends the connection. No client certificate is asked for: the
/// authority has none.
async fn show_challenge(worker: &Worker, start: StartHandshake<TcpStream>) -> io::Result<()> {
    let challenges = &worker.shared.challenges;
    if !challenges.awaits(&start.client_hello()) {
        return Err(io::Error::other("no order waits for a challenge of this name"));
    }
    let config = challenges.server_config().map_err(io::Error::other)?;
    start.into_stream(config).await?.shutdown().await
}

pub(super) const NOTHING: &str = "the client presented no certificate";

/// What is known of a handshake that failed, or will be judged.
pub(super) struct Story<'a> {
    pub(super) worker: &'a Worker,
    pub(super) peer: SocketAddr,
    /// The host that the client asked for.
    pub(super) name: Option<&'a str>,
}

impl Story<'_> {
    /// Whether the connection may stay, as far as its handshake is to judge. A resumed session was judged when it
    /// began; since then time has gone on.
    pub(super) fn judge(&self, client: &ClientTls) -> io::Result<()> {
        if !client.demand.is_strict() {
            return Ok(());
        }
        let Some(chain) = &client.chain else {
            self.tell(None, NOTHING);
            return Err(io::Error::other(NOTHING));
        };
        let now = self.worker.shared.clock.now().as_second();
        match client.demand.trust().verify(chain, now) {
            Verdict::Valid => Ok(()),
            Verdict::Invalid(flaw) => {
                self.tell(client.names(), &flaw.to_string());
                Err(io::Error::other(flaw))
            }
        }
    }

    /// Tells of the certificate that was refused, if one was.
    pub(super) fn refused(&self, slot: &Refused) -> bool {
        let refused = slot.lock();
        if let Some(chain) = &*refused {
            self.tell(Some(&chain.names), &chain.flaw.to_string());
        }
        refused.is_some()
    }

    /// Tells of a failure that is about the client's certificate.
    fn failed(&self, refused: Option<&Refused>, error: &io::Error) {
        if refused.is_none_or(|slot| self.refused(slot)) {
            return;
        }
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::NoCertificatesPresented) => self.tell(None, NOTHING),
            Some(rustls::Error::InvalidCertificate(why)) => self.tell(None, &why.to_string()),
            _ => {}
        }
    }

    /// One line of the access log (spec proxy.md 2).
    pub(super) fn tell(&self, names: Option<&CertificateNames>, reason: &str) {
        if !self.worker.current.load().access_log.writes(false) {
            return;
        }
        let mut line = serde_json::json!({
            "level": "info",
            "service": "envoy",
            "ip": self.peer.ip().to_canonical().to_string(),
            "tls-sni-hostname": self.name.unwrap_or_default(),
            "downstream-transport-failure-reason": reason,
            "time": self.worker.shared.clock.now().to_string(),
            "message": "listener connection failure",
        });
        if let Some(names) = names {
            line["client-certificate"] = serde_json::json!({
                "issuer": names.issuer,
                "subject": names.subject,
                "subjectAltName": names.alternatives,
            });
        }
        self.worker.shared.log.line(|buffer| {
            buffer.extend_from_slice(line.to_string().as_bytes());
            buffer.push(b'\n');
        });
    }
}
