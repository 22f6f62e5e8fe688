//! Connections to the databrokers of this installation: HTTP/2, one at a time, opened when there is something to
//! ask.
//!
//! A request is sent only on a connection that stands, so that a databroker that is down costs a moment and no
//! answer: the next one is asked instead. Whoever answered last is asked again, so that what was written is read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pomerium_config::settings::Origin;
use rand::seq::SliceRandom;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is asked so often whether it still stands…
const PING: Duration = Duration::from_secs(5);
/// …and given up after this long without an answer.
const PONG: Duration = Duration::from_secs(5);

type Connection = http2::SendRequest<Body>;

/// Sends each request to a databroker that can be reached.
#[derive(Clone)]
pub struct Dialer(Arc<Inner>);

struct Inner {
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    current: AtomicUsize,
}

/// One databroker, or several behind one name.
pub struct Endpoint {
    origin: Origin,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The one address to connect to; any of its name's unless given.
    pinned: Option<SocketAddr>,
    open: Mutex<Option<Connection>>,
}

impl Dialer {
    /// Over `endpoints`, of which there must be one; begins with any of them, so that many processes do not all begin
    /// with the first.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let current = AtomicUsize::new(rand::random_range(0..endpoints.len().max(1)));
        Self(Arc::new(Inner { endpoints, current }))
    }

    /// Those it goes to.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
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
                .send_request(request)
                .await
                .map_err(|error| Status::unavailable(format!("{:#}", anyhow::Error::from(error))))?;
            Ok(answer.map(Body::new))
        }
        .boxed()
    }
}

impl Inner {
    /// A connection that stands: to the current endpoint, else to the next that can be reached.
    async fn connection(&self) -> Result<(&Endpoint, Connection), Status> {
        let count = self.endpoints.len();
        let first = self.current.load(Ordering::Relaxed);
        let mut problems = Vec::new();
        for at in (first..first + count).map(|at| at % count.max(1)) {
            let Some(endpoint) = self.endpoints.get(at) else {
                continue;
            };
            match endpoint.connection().await {
                Ok(connection) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok((endpoint, connection));
                }
                Err(error) => problems.push(format!("{}: {error:#}", endpoint.name())),
            }
        }
        Err(Status::unavailable(problems.join("; ")))
    }
}

impl Endpoint {
    /// At `origin`; over TLS where its scheme says so, with a certificate for `server_name` or else its host.
    ///
    /// Errors when that is no name a certificate could be for.
    pub fn new(origin: Origin, server_name: Option<&str>, tls: &TlsConnector) -> anyhow::Result<Self> {
        let secured = match origin.scheme.as_str() {
            "https" => {
                let name = server_name.unwrap_or(&origin.host).to_owned();
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
        };
        Ok(self.addresses().await?.into_iter().map(one).collect())
    }

    /// For messages: the URL, with the address where there is one only.
    pub fn name(&self) -> String {
        match self.pinned {
            Some(address) => format!("{} ({address})", self.origin.url()),
            None => self.origin.url(),
        }
    }

    /// The connection that stands, or a new one. Callers that come at the same time share it.
    async fn connection(&self) -> anyhow::Result<Connection> {
        let mut open = self.open.lock().await;
        if let Some(connection) = open.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        *open = None;
        let made = tokio::time::timeout(CONNECT, self.connect()).await;
        let connection = made.map_err(|_| anyhow!("no connection within {} s", CONNECT.as_secs()))??;
        Ok(open.insert(connection).clone())
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = self.reach().await?;
        // Small messages that are waited for.
        let _ = stream.set_nodelay(true);
        let Some((connector, name)) = &self.tls else {
            return speak(stream).await;
        };
        let stream = connector.connect(name.clone(), stream).await.context("TLS")?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            bail!("it does not speak HTTP/2; is this the gRPC address of a databroker?");
        }
        speak(stream).await
    }

    /// Any of its addresses, in no order: those behind one name share the load.
    async fn reach(&self) -> anyhow::Result<TcpStream> {
        let mut addresses = self.addresses().await?;
        addresses.shuffle(&mut rand::rng());
        let mut last = anyhow!("its name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
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
        let found = tokio::net::lookup_host((host, port)).await.context("its name")?;
        Ok(found.collect())
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

async fn speak<S>(stream: S) -> anyhow::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, driver) = http2::Builder::new(TokioExecutor::new())
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
    Ok(connection)
}
