//! The listener for other proxies.

use ipnet::IpNet;

use super::CertificatePair;

/// `decision_listener`: other proxies ask here whether a request may pass.
#[derive(Debug, Clone)]
pub struct DecisionSettings {
    /// `host:port`; host empty means every address.
    pub address: String,
    /// Who may ask, never empty. Everybody else is cut off before a byte is read.
    pub trusted_peers: Vec<IpNet>,
    /// HTTP forward-auth is answered.
    pub forward_auth: bool,
    /// Envoy's `ext_authz` is answered.
    pub ext_authz: bool,
    /// TLS; plain when absent.
    pub tls: Option<DecisionTls>,
}

/// TLS of the listener for other proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionTls {
    /// The certificate with its key.
    pub certificate: CertificatePair,
    /// PEM: proxies must show a certificate from it.
    pub client_ca: Option<Vec<u8>>,
}
