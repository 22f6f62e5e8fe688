//! What can go wrong upstream, and how it is told apart (spec proxy.md 7).

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use super::doubt::Doubt;
use super::host::Outcome;
use super::tls::Advice;

/// Why an upstream gave no answer. Each kind has its status, flag and details in `flow::problem`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    /// The name has no address.
    #[error("{host} has no address: {source}")]
    NoAddress {
        /// The name.
        host: String,
        /// What the resolver says.
        source: Arc<io::Error>,
    },
    /// The socket or TLS could not be set up.
    #[error("cannot connect: {0}{advice}", advice = Advice(.0))]
    Connect(Arc<io::Error>),
    /// Connecting took longer than 10 s, TLS included.
    #[error("connecting timed out")]
    ConnectTimeout,
    /// A limit of the cluster is reached.
    #[error("{0} is reached: circuit_breaker_thresholds of the route, or of all routes, set it")]
    Overflow(&'static str),
    /// No host may be used: none is healthy, or the names have no addresses.
    #[error("no healthy upstream")]
    NoHost,
    /// The upstream closed the connection before it answered.
    #[error("the upstream closed the connection before it answered")]
    Closed,
    /// The upstream reset the stream before it answered.
    #[error("the upstream reset the request")]
    Reset,
    /// The upstream does not speak the protocol.
    #[error("the upstream broke the protocol: {0}")]
    Protocol(String),
    /// The request body could not be read to its end: the client went away or broke its framing.
    #[error("the request body broke off")]
    RequestBody,
}

impl UpstreamError {
    /// Whether the library says that the upstream has not looked at the request: it was refused as a
    /// stream (RFC 9113 8.7), or came after the last one of a connection that is being closed (6.8).
    pub(crate) fn is_unprocessed(error: &hyper::Error) -> bool {
        let h2 = h2_of(error);
        h2.is_some_and(|h2| {
            (h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM))
                || (h2.is_go_away() && h2.is_remote())
        })
    }

    /// Whether another host may fare better, provided that the request is untouched.
    pub fn concerns_host(&self) -> bool {
        !matches!(self, Self::Overflow(_) | Self::NoHost | Self::RequestBody)
    }

    /// What the request says about the host's health; `None`: nothing.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Connect(_) => Some(Outcome::ConnectFailed),
            Self::ConnectTimeout => Some(Outcome::ConnectTimeout),
            Self::Closed | Self::Reset => Some(Outcome::Reset),
            Self::Protocol(_) => Some(Outcome::Protocol),
            Self::NoAddress { .. } | Self::Overflow(_) | Self::NoHost | Self::RequestBody => None,
        }
    }

    pub(crate) fn connect(error: io::Error) -> Self {
        Self::Connect(Arc::new(error))
    }

    /// Reads the library's error.
    pub(crate) fn from_hyper(error: &hyper::Error) -> Self {
        if error.is_user() || error.is_body_write_aborted() {
            return Self::RequestBody;
        }
        if error.is_parse() || error.is_parse_status() {
            return Self::Protocol(error.to_string());
        }
        if let Some(doubt) = doubt_of(error) {
            return Self::Protocol(doubt.to_string());
        }
        h2_of(error).map_or(Self::Closed, Self::from_h2)
    }

    fn from_h2(error: &h2::Error) -> Self {
        let protocol = [
            h2::Reason::PROTOCOL_ERROR,
            h2::Reason::FRAME_SIZE_ERROR,
            h2::Reason::HTTP_1_1_REQUIRED,
        ];
        match error.reason() {
            Some(reason) if protocol.contains(&reason) => Self::Protocol(error.to_string()),
            Some(_) if error.is_reset() => Self::Reset,
            _ => Self::Closed,
        }
    }
}

/// What our own reading of the stream ended with.
fn doubt_of(error: &hyper::Error) -> Option<&Doubt> {
    let source = error.source()?.downcast_ref::<io::Error>()?;
    source.get_ref()?.downcast_ref()
}

fn h2_of(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(h2) = inner.downcast_ref() {
            return Some(h2);
        }
        source = inner.source();
    }
    None
}
