//! What can go wrong upstream, and how it is told apart (spec proxy.md 7).

use std::error::Error as _;
use std::io;
use std::sync::Arc;

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
    #[error("cannot connect: {0}")]
    Connect(Arc<io::Error>),
    /// Connecting took longer than 10 s, TLS included.
    #[error("connecting timed out")]
    ConnectTimeout,
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
    /// Whether another destination may be tried: the request cannot have reached this one.
    pub fn before_request(&self) -> bool {
        matches!(
            self,
            Self::NoAddress { .. } | Self::Connect(_) | Self::ConnectTimeout
        )
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
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(h2) = inner.downcast_ref::<h2::Error>() {
                return Self::from_h2(h2);
            }
            source = inner.source();
        }
        Self::Closed
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
