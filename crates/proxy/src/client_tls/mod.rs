//! Client certificates on their way from the settings to a request (spec proxy.md 2).
//!
//! [`ClientTrusts`] is what one configuration says about them, [`Demands`] which host asks for whose,
//! [`TlsConfigs`] the TLS settings that follow from it, [`ClientTls`] what came of one handshake. Without any
//! authority in the configuration nothing of this exists, and no request looks for it.

mod configs;
mod demands;
mod trusts;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::OnceLock;

use pomerium_certs::client::{CertificateNames, ClientChain, Demand};
use pomerium_policy::CertificateFacts;

pub use configs::{Choice, TlsConfigs};
pub(crate) use demands::Demands;
pub(crate) use trusts::ClientTrusts;

/// A connection, as far as client certificates go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// What it was asked for and presented.
    pub(crate) client: Option<Arc<ClientTls>>,
    /// Whether it is one that could be asked.
    pub(crate) tls: bool,
}

/// What a connection was asked for, and what it presented. Made once per connection.
#[derive(Debug)]
pub(crate) struct ClientTls {
    /// What the handshake asked for.
    pub(crate) demand: Arc<Demand>,
    /// What the client sent; its key was proven, nothing else.
    pub(crate) chain: Option<ClientChain>,
    /// What its certificate says.
    pub(crate) facts: Option<CertificateFacts>,
    names: OnceLock<CertificateNames>,
}

impl ClientTls {
    /// Reads what a finished handshake has brought. A resumed session brings the certificates of the one it
    /// continues.
    pub(crate) fn presented(
        demand: Arc<Demand>,
        certificates: &[rustls_pki_types::CertificateDer<'_>],
    ) -> Self {
        let chain = ClientChain::new(certificates);
        let facts = chain
            .as_ref()
            .and_then(|chain| CertificateFacts::read(chain.leaf()))
            .map(|facts| facts.with_intermediates(certificates.iter().skip(1).map(AsRef::as_ref)));
        Self {
            demand,
            chain,
            facts,
            names: OnceLock::new(),
        }
    }

    /// Whose certificate it is, for logs.
    pub(crate) fn names(&self) -> Option<&CertificateNames> {
        let chain = self.chain.as_ref()?;
        Some(self.names.get_or_init(|| chain.names()))
    }
}
