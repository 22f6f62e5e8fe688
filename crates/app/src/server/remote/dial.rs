//! Connections to the databrokers of this installation: HTTP/2, one at a time, opened when there is something to
//! ask.
//!
//! A request is sent only on a connection that stands, so that a databroker that is down costs a moment and no
//! answer: the next one is asked instead. One that answers that it cannot serve is set [`Aside`] for a while. Whoever
//! answered last is asked again, so that what was written is read. When none of them serves it does not go round.

#[cfg(test)]
pub(super) mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pomerium_certs::name_pattern::NamePattern;
use pomerium_config::settings::Origin;
use rand::seq::SliceRandom;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::aside::Aside;
use super::trouble::{self, Unprepared};

/// How long an answer of the name server counts: who asks a databroker that does not serve asks often.
const FRESH: Duration = Duration::from_secs(2);
/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is asked so often whether it still stands…
const PING: Duration = Duration::from_secs(5);
/// …and given up after this long without an answer.
const PONG: Duration = Duration::from_secs(5);

/// A connection, and to whom.
#[derive(Clone)]
struct Connection {
    sender: http2::SendRequest<Body>,
    address: SocketAddr,
}

/// Sends each request to a databroker that can be reached.
#[derive(Clone)]
pub struct Dialer(Arc<Inner>);

struct Inner {
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    aside: Arc<Aside>,
    unprepared: Arc<Unprepared>,
}

/// Who may be connected to.
#[derive(Clone, Copy)]
enum Among<'a> {
    /// Whoever is not one of these.
    Others(&'a [SocketAddr]),
    /// This one.
    One(SocketAddr),
}

impl Among<'_> {
    fn has(self, address: SocketAddr) -> bool {
        match self {
            Self::Others(aside) => !aside.contains(&address),
            Self::One(one) => one == address,
        }
    }
}

/// One databroker, or several behind one name.
pub struct Endpoint {
    origin: Origin,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The one address to connect to; any of its name's unless given.
    pinned: Option<SocketAddr>,
    open: Mutex<Option<Connection>>,
    looked_up: parking_lot::Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Dialer {
    /// Over `endpoints`, of which there must be one; begins with any of them, so that many processes do not all begin
    /// with the first.
    pub fn new(endpoints: Vec<Endpoint>, unprepared: Arc<Unprepared>) -> Self {
        Self::beside(endpoints, Arc::default(), unprepared)
    }

    /// To `one` of those behind this one. What is learned of it counts here as well.
    pub fn only(&self, one: Endpoint) -> Self {
        let (aside, unprepared) = (Arc::clone(&self.0.aside), Arc::clone(&self.0.unprepared));
        Self::beside(vec![one], aside, unprepared)
    }

    fn beside(endpoints: Vec<Endpoint>, aside: Arc<Aside>, unprepared: Arc<Unprepared>) -> Self {
        let current = AtomicUsize::new(rand::random_range(0..endpoints.len().max(1)));
        Self(Arc::new(Inner {
            endpoints,
            current,
            aside,
            unprepared,
        }))
    }

    /// Those it goes to.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    /// Those that do not serve.
    pub fn aside(&self) -> &Aside {
        &self.0.aside
    }
}

impl Service<http::Request<Body>> for Dialer {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        async move {
            let (endpoint, mut connection) = inner.connection().await?;
            let request = endpoint.addressed(request)?;
            let answer = connection
                .sender
                .send_request(request)
                .await
                .map_err(|error| inner.failed(format!("{:#}", anyhow::Error::from(error))))?;
            Ok(Inner::observed(&inner, connection.address, answer))
        }
        .boxed()
    }
}

impl Inner {
    /// A connection that stands: to the current endpoint, else to the next that can be reached. Those that are set
    /// aside come last.
    async fn connection(&self) -> Result<(&Endpoint, Connection), Status> {
        let aside = self.aside.now();
        let turns = std::iter::once(Among::Others(&aside)).chain(aside.iter().copied().map(Among::One));
        let mut problems = Vec::new();
        for among in turns {
            if let Some(found) = self.connection_among(among, &mut problems).await {
                return Ok(found);
            }
        }
        Err(self.failed(problems.join("; ")))
    }

    fn failed(&self, why: String) -> Status {
        Status::unavailable(self.unprepared.explained(why))
    }

    async fn connection_among(
        &self,
        among: Among<'_>,
        problems: &mut Vec<String>,
    ) -> Option<(&Endpoint, Connection)> {
        let count = self.endpoints.len();
        let first = self.current.load(Ordering::Relaxed);
        for at in (first..first + count).map(|at| at % count.max(1)) {
            let Some(endpoint) = self.endpoints.get(at) else {
                continue;
            };
            match endpoint.connection(among, &self.aside).await {
                Ok(Some(connection)) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Some((endpoint, connection));
                }
                Ok(None) => {}
                Err(error) => problems.push(format!("{}: {error:#}", endpoint.name())),
            }
        }
        None
    }

    /// The answer of the one at `address`. If it says that it cannot serve, at once or at the end of its stream, it is
    /// set aside.
    fn observed(
        inner: &Arc<Self>,
        address: SocketAddr,
        answer: http::Response<Incoming>,
    ) -> http::Response<Body> {
        if answer.status().is_server_error() {
            inner.aside.put(address, &format!("status {}", answer.status()));
        }
        inner.note(address, answer.headers());
        let inner = Arc::clone(inner);
        answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                if let Some(trailers) = frame.trailers_ref() {
                    inner.note(address, trailers);
                }
                frame
            }))
        })
    }

    fn note(&self, address: SocketAddr, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers)
            && status.code() == Code::Unavailable
        {
            self.aside.put(address, status.message());
        }
    }
}

impl Endpoint {
    /// At `origin`; over TLS where its scheme says so, with a certificate for `server_name` or else its host. Of a pattern
    /// an example is asked for.
    ///
    /// Errors when that is no name a certificate could be for.
    pub fn new(origin: Origin, server_name: Option<&str>, tls: &TlsConnector) -> anyhow::Result<Self> {
        let secured = match origin.scheme.as_str() {
            "https" => {
                let name = server_name.unwrap_or(&origin.host);
                let name = match NamePattern::of(name) {
                    Some(pattern) => pattern?.example(),
                    None => name.to_owned(),
                };
                let name = ServerName::try_from(name.clone())
                    .map_err(|_| anyhow!("{name}: no certificate can be for that name"))?;
                Some((tls.clone(), name))
            }
            _ => None,
        };
        Ok(Self {
            origin,
            tls: secured,
            pinned: None,
            open: Mutex::new(None),
            looked_up: parking_lot::Mutex::default(),
        })
    }

    /// One endpoint for each address behind the name.
    ///
    /// Errors when the name cannot be looked up.
    pub async fn each(&self) -> anyhow::Result<Vec<Self>> {
        let one = |address| Self {
            origin: self.origin.clone(),
            tls: self.tls.clone(),
            pinned: Some(address),
            open: Mutex::new(None),
            looked_up: parking_lot::Mutex::default(),
        };
        Ok(in_time(self.addresses()).await?.into_iter().map(one).collect())
    }

    /// The one address it stands for, if there is only one.
    pub fn pinned(&self) -> Option<SocketAddr> {
        self.pinned
    }

    /// For messages: the URL, with the address where there is one only.
    pub fn name(&self) -> String {
        match self.pinned {
            Some(address) => format!("{} ({address})", self.origin.url()),
            None => self.origin.url(),
        }
    }

    /// The connection that stands, or a new one; `None` when nobody is `among` those that may be connected to. Callers
    /// that come at the same time share it. Who cannot be reached is put `aside`.
    async fn connection(&self, among: Among<'_>, aside: &Aside) -> anyhow::Result<Option<Connection>> {
        let mut open = self.open.lock().await;
        if let Some(connection) = open.as_ref().filter(|connection| connection.stands()) {
            // Not another one behind the same name, if that is what is asked for.
            if among.has(connection.address) {
                return Ok(Some(connection.clone()));
            }
        } else {
            *open = None;
        }
        let made = self.reach(among, aside).await?;
        Ok(made.map(|connection| open.insert(connection).clone()))
    }

    /// To any of its addresses, in no order: those behind one name share the load.
    async fn reach(&self, among: Among<'_>, aside: &Aside) -> anyhow::Result<Option<Connection>> {
        let mut addresses = in_time(self.addresses()).await?;
        if addresses.is_empty() {
            bail!("its name has no address");
        }
        addresses.retain(|address| among.has(*address));
        addresses.shuffle(&mut rand::rng());
        let mut problem = None;
        for address in addresses {
            match in_time(self.connect(address)).await {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) => {
                    aside.put(address, &format!("{error:#}"));
                    problem = Some(error);
                }
            }
        }
        problem.map_or(Ok(None), Err)
    }

    async fn connect(&self, address: SocketAddr) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        // Small messages that are waited for.
        let _ = stream.set_nodelay(true);
        let sender = match &self.tls {
            None => speak(stream).await?,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                let stream = stream.map_err(trouble::of_handshake)?;
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    bail!("it does not speak HTTP/2; is this the gRPC address of a databroker?");
                }
                speak(stream).await?
            }
        };
        Ok(Connection { sender, address })
    }

    async fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        if let Some(address) = self.pinned {
            return Ok(vec![address]);
        }
        let port = self
            .origin
            .port
            .unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let host = self.origin.host.as_str();
        if let Some((at, addresses)) = &*self.looked_up.lock()
            && at.elapsed() < FRESH
        {
            return Ok(addresses.clone());
        }
        let found = tokio::net::lookup_host((host, port)).await.context("its name")?;
        let addresses: Vec<_> = found.collect();
        *self.looked_up.lock() = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    /// `request` with the address it goes to.
    fn addressed(&self, mut request: http::Request<Body>) -> Result<http::Request<Body>, Status> {
        let path = request.uri().path_and_query().cloned();
        let mut uri = http::Uri::builder()
            .scheme(self.origin.scheme.as_str())
            .authority(self.origin.authority());
        if let Some(path) = path {
            uri = uri.path_and_query(path);
        }
        *request.uri_mut() = uri.build().map_err(|error| Status::internal(error.to_string()))?;
        Ok(request)
    }
}

impl Connection {
    fn stands(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// What a connection is made of must not take longer than the whole may.
async fn in_time<T>(step: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let made = tokio::time::timeout(CONNECT, step).await;
    made.map_err(|_| anyhow!("no connection within {} s", CONNECT.as_secs()))?
}

async fn speak<S>(stream: S) -> anyhow::Result<http2::SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .context("HTTP/2")?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "databroker: a connection ended");
        }
    });
    Ok(sender)
}
