//! What one configuration says about those who ask for decisions: the listener for other proxies, and how what they
//! tell is read.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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

/// How requests are read that others tell about.
pub(crate) struct Reading {
    /// As everybody's, with those who tell believed.
    pub(crate) rules: Rules,
    /// Headers that say who somebody is, and nobody but us may set.
    pub(super) identity: Vec<HeaderName>,
    /// The same with `_` for `-`, which applications behind CGI read as the same.
    pub(super) twins: Vec<Bytes>,
}

impl Reading {
    /// For the services of this installation, wherever they are: who they are was seen by their token.
    pub(crate) fn of_services(rules: &Rules, claims: &ClaimHeaders) -> Self {
        Self::new(
            rules,
            claims,
            &[Ipv4Net::default().into(), Ipv6Net::default().into()],
        )
    }

    /// `rules` are those of the listener for people; `peers` are believed beside whom these believe.
    fn new(rules: &Rules, claims: &ClaimHeaders, peers: &[IpNet]) -> Self {
        let identity: Vec<_> = [JWT_ASSERTION, JWT_ASSERTION_FOR]
            .into_iter()
            .chain(claims.iter().map(|(name, _)| name.clone()))
            .collect();
        let twins = identity.iter().map(HeaderName::as_str);
        let twins = twins
            .filter(|name| name.contains('-'))
            .map(|name| Bytes::from(name.replace('-', "_")))
            .collect();
        let rules = Rules {
            trusted: peers.iter().chain(&rules.trusted).copied().collect(),
            xff_trusted_hops: 0,
            ..rules.clone()
        };
        Self {
            rules,
            identity,
            twins,
        }
    }
}

/// The listener for other proxies, compiled.
pub(crate) struct DecisionPlan {
    peers: Vec<IpNet>,
    pub(super) forward_auth: bool,
    pub(super) ext_authz: bool,
    /// How what the peers tell is read.
    pub(crate) reading: Reading,
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
        Ok(Self {
            peers: settings.trusted_peers.clone(),
            forward_auth: settings.forward_auth,
            ext_authz: settings.ext_authz,
            reading: Reading::new(rules, claims, &settings.trusted_peers),
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
