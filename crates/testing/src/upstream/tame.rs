//! An upstream that speaks correct HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::behave::{Canned, Zoo};
use super::gate::{Gate, Gates};
use super::recorded::Recorded;
use crate::serve::{Server, serve_at};
use crate::{Authority, within};

/// An application behind the proxy. What it does depends on the path:
///
/// | path | what happens |
/// |---|---|
/// | `/gated/<name>` | answers at once; the body comes from [`Upstream::gate`] |
/// | `/stall` | takes the request and never answers |
/// | `/early` | answers without reading the body |
/// | `/status/<code>` | that status |
/// | `/ws` with an upgrade | WebSocket, echoes messages |
/// | `content-type: application/grpc…` | echoes the messages, ends with trailers |
/// | anything else | JSON of what was received, or [`Upstream::reply_with`] |
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    tls: bool,
    requests: Arc<Mutex<Vec<Recorded>>>,
    count: Arc<watch::Sender<usize>>,
    canned: Arc<Mutex<Option<Canned>>>,
    gates: Gates,
}

impl Upstream {
    /// Starts one without TLS; it takes HTTP/1.1 and HTTP/2 (prior knowledge).
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> Result<Upstream> {
        Self::start_with("127.0.0.1:0", None).await
    }

    /// Starts one without TLS at `address`: another one than 127.0.0.1, or a port that is known already.
    ///
    /// # Errors
    /// The address is taken or not of this machine.
    pub async fn start_at(address: &str) -> Result<Upstream> {
        Self::start_with(address, None).await
    }

    /// Starts one with a TLS configuration of the test's own.
    ///
    /// # Errors
    /// No port.
    pub async fn start_tls_with(config: rustls::ServerConfig) -> Result<Upstream> {
        Self::start_with("127.0.0.1:0", Some(config)).await
    }

    /// Starts one with TLS and a certificate of `authority` for `names`; HTTP/2 is offered when `http2`.
    ///
    /// # Errors
    /// No port, or a bad name.
    pub async fn start_tls(authority: &Authority, names: &[&str], http2: bool) -> Result<Upstream> {
        let alpn: &[&str] = if http2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
        Self::start_with("127.0.0.1:0", Some(authority.issue(names)?.server_config(alpn)?)).await
    }

    async fn start_with(address: &str, tls: Option<rustls::ServerConfig>) -> Result<Upstream> {
        let (requests, canned, gates) = (Arc::default(), Arc::default(), Gates::default());
        let count = Arc::new(watch::Sender::new(0));
        let zoo = Zoo {
            requests: Arc::clone(&requests),
            count: Arc::clone(&count),
            canned: Arc::clone(&canned),
            gates: gates.clone(),
        };
        let encrypted = tls.is_some();
        let server = serve_at(address, tls, move |request| zoo.clone().respond(request)).await?;
        Ok(Upstream {
            server,
            tls: encrypted,
            requests,
            count,
            canned,
            gates,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// `http://…` or `https://…`.
    pub fn url(&self) -> String {
        format!(
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.server.address
        )
    }

    /// `h2c://…`.
    pub fn h2c_url(&self) -> String {
        format!("h2c://{}", self.server.address)
    }

    /// `http://localhost:…`, for what differs between names and addresses.
    pub fn localhost_url(&self) -> String {
        format!("http://localhost:{}", self.server.address.port())
    }

    /// Every request so far. A request is recorded when its body has been read.
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().clone()
    }

    /// Forgets the requests so far and returns them.
    pub fn take_requests(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.requests.lock())
    }

    /// Waits until `count` requests in all have been recorded since the start.
    ///
    /// # Errors
    /// They do not come in time.
    pub async fn wait_for(&self, count: usize) -> Result<()> {
        let mut seen = self.count.subscribe();
        within(
            &format!("{count} requests upstream"),
            seen.wait_for(|now| *now >= count),
        )
        .await??;
        Ok(())
    }

    /// From now on, paths without a behaviour of their own get this answer.
    pub fn reply_with(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        *self.canned.lock() = Some(Canned {
            status,
            headers,
            body: body.to_owned(),
        });
    }

    /// The test's end of the body of `GET /gated/<name>`; open it before the request is made.
    pub fn gate(&self, name: &str) -> Gate {
        self.gates.open(name)
    }
}
