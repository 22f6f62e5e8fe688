//! What one configuration says about the listener for other proxies.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use ipnet::IpNet;
use pomerium_authorize::ClaimHeaders;
use pomerium_certs::{Alpn, CertError, GuardError, guarded_server_config, load_pair};
use pomerium_config::settings::{DecisionSettings, DecisionTls};
use pomerium_web::canonical::{JWT_ASSERTION, JWT_ASSERTION_FOR, Rules};
use rustls::ServerConfig;

/// Why the listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// Its authority for peers, or the cryptographic library.
    #[error("tls_client_ca: {0}")]
    Guard(#[from] GuardError),
}

/// The listener for other proxies, compiled.
pub(crate) struct DecisionPlan {
    peers: Vec<IpNet>,
    pub(super) forward_auth: bool,
    pub(super) ext_authz: bool,
    /// How their requests are read: as everybody's, with the peers believed.
    pub(crate) rules: Rules,
    /// Headers that say who somebody is, and nobody but us may set.
    pub(super) identity: Vec<HeaderName>,
    /// The same with `_` for `-`, which applications behind CGI read as the same.
    pub(super) twins: Vec<Bytes>,
    tls_settings: Option<DecisionTls>,
    /// TLS; plain when absent.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl DecisionPlan {
    /// Compiles `settings`; `rules` are those of the listener for people. `previous` lends its TLS settings where
    /// nothing was changed about them.
    ///
    /// Errors when the certificates cannot be used.
    pub(crate) fn build(
        settings: &DecisionSettings,
        rules: &Rules,
        claims: &ClaimHeaders,
        previous: Option<&Self>,
    ) -> Result<Self, DecisionError> {
        let known = previous.filter(|previous| previous.tls_settings == settings.tls);
        let tls = match (&settings.tls, known) {
            (_, Some(known)) => known.tls.clone(),
            (Some(tls), None) => Some(Arc::new(tls_config(tls)?)),
            (None, None) => None,
        };
        let identity: Vec<_> = [JWT_ASSERTION, JWT_ASSERTION_FOR]
            .into_iter()
            .chain(claims.iter().map(|(name, _)| name.clone()))
            .collect();
        let twins = identity.iter().map(HeaderName::as_str);
        let twins = twins
            .filter(|name| name.contains('-'))
            .map(|name| Bytes::from(name.replace('-', "_")))
            .collect();
        let trusted = settings.trusted_peers.iter().chain(&rules.trusted);
        Ok(Self {
            peers: settings.trusted_peers.clone(),
            forward_auth: settings.forward_auth,
            ext_authz: settings.ext_authz,
            rules: Rules {
                trusted: trusted.copied().collect(),
                xff_trusted_hops: 0,
                ..rules.clone()
            },
            identity,
            twins,
            tls_settings: settings.tls.clone(),
            tls,
        })
    }

    /// Whether `peer` may ask.
    pub(crate) fn trusts(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        self.peers.iter().any(|network| network.contains(&peer))
    }
}

fn tls_config(settings: &DecisionTls) -> Result<ServerConfig, DecisionError> {
    let pair = &settings.certificate;
    let loaded = load_pair(&pair.origin, &pair.chain, pair.key.expose())?;
    Ok(guarded_server_config(
        loaded,
        settings.client_ca.as_deref(),
        Alpn::Auto,
    )?)
}
