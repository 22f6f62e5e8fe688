//! One probe: connect, ask, read, judge. Everything read is bounded, and the caller bounds the time.
//!
//! A [`Prober`] belongs to one check of one host and keeps its connection where the check wants that.

mod exchange;
mod grpc;
mod http;
mod tcp;

use std::sync::Arc;

use pomerium_config::settings::{HealthCheck, Probe};

use super::Finding;
use crate::upstream::connect::Stream;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::host::Host;
use crate::upstream::{UpstreamError, Upstreams, connect};
use exchange::Sender;

/// Most that is read of one answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What a probe found, and why in words for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub(super) finding: Finding,
    pub(super) reason: String,
}

impl Report {
    fn good() -> Self {
        Self {
            finding: Finding::Good,
            reason: "as expected".into(),
        }
    }

    fn silent(reason: impl Into<String>) -> Self {
        Self {
            finding: Finding::Silent,
            reason: reason.into(),
        }
    }

    fn bad(reason: impl Into<String>) -> Self {
        Self {
            finding: Finding::Bad,
            reason: reason.into(),
        }
    }
}

/// The connection that is kept for the next probe.
#[derive(Default)]
enum Kept {
    #[default]
    Nothing,
    Stream(Box<Stream>),
    Http(Sender),
}

/// Probes one host for one check.
pub struct Prober {
    check: HealthCheck,
    /// Name of the cluster: the `Host` of a probe that names none.
    cluster: Box<str>,
    host: Arc<Host>,
    /// The host's endpoint with what the probe offers in ALPN.
    endpoint: Endpoint,
    upstreams: Arc<Upstreams>,
    kept: Kept,
}

impl Prober {
    /// A prober without a connection yet.
    pub fn new(check: HealthCheck, cluster: &str, host: Arc<Host>, upstreams: Arc<Upstreams>) -> Self {
        let alpn: &[&[u8]] = match &check.probe {
            Probe::Tcp { .. } => &[],
            Probe::Http(probe) if !probe.http2 => &[b"http/1.1"],
            Probe::Http(_) | Probe::Grpc { .. } => &[b"h2"],
        };
        Self {
            check,
            cluster: cluster.into(),
            endpoint: host.endpoint.with_alpn(alpn),
            host,
            upstreams,
            kept: Kept::Nothing,
        }
    }

    /// Probes once, within the time limit of the check.
    pub async fn probe(&mut self) -> Report {
        let limit = self.check.timeout;
        match tokio::time::timeout(limit, Box::pin(self.untimed())).await {
            Ok(report) => report,
            Err(_) => {
                self.kept = Kept::Nothing;
                Report::silent(format!("no answer within {limit:?}"))
            }
        }
    }

    async fn untimed(&mut self) -> Report {
        let kept = std::mem::take(&mut self.kept);
        let (report, kept) = match &self.check.probe {
            Probe::Tcp { send, receive } => tcp::probe(self, send, receive, kept).await,
            Probe::Http(probe) => http::probe(self, probe, kept).await,
            Probe::Grpc {
                service_name,
                authority,
            } => grpc::probe(self, service_name, authority, kept).await,
        };
        if self.check.reuse_connection {
            self.kept = kept;
        }
        report
    }

    /// A new connection to the host, at the port of the check.
    async fn dial(&self) -> Result<Stream, UpstreamError> {
        let (addresses, port) = (&self.host.addresses, self.check.alt_port);
        let dialled = connect::dial(&self.endpoint, addresses, port, self.upstreams.bind());
        dialled.await.map(|(stream, _)| stream)
    }

    /// `https` where the host speaks TLS.
    fn scheme(&self) -> &'static str {
        if self.endpoint.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }
}
