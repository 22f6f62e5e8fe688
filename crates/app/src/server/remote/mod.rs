//! The databroker of another process: the way there, whether those behind its name serve, and whether they are one.

mod aside;
mod dial;
mod instances;
mod serving;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::remote::{Remote, Token, Transport};
use pomerium_certs::name_pattern::NamePattern;
use pomerium_certs::{DerivedAuthority, services};
use pomerium_config::settings::{RemoteDatabroker, Settings};
use pomerium_crypto::service_token;
use tokio_rustls::TlsConnector;

use self::dial::{Dialer, Endpoint};
pub use self::instances::watch as watch_instances;
pub use self::serving::watch as watch_serving;
use self::trouble::Unprepared;

/// How long a call may take; streams may take for ever.
const CALL: Duration = Duration::from_secs(10);

/// The way to the databrokers of this installation. Nothing is connected before it is asked for something.
#[derive(Clone)]
pub struct Way {
    dialer: Dialer,
    token: Token,
}

/// The name of their certificates, where it is a pattern.
fn pattern(remote: &RemoteDatabroker) -> anyhow::Result<Option<NamePattern>> {
    let name = remote.server_name.as_deref().and_then(NamePattern::of);
    Ok(name.transpose()?)
}

impl Way {
    /// To the databrokers that `remote` names.
    ///
    /// Errors when TLS cannot be set up.
    pub fn new(
        remote: &RemoteDatabroker,
        settings: &Settings,
        (shared, derived): (&[u8; 32], &DerivedAuthority),
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let mutual = settings.internal.mutual_tls.then_some(derived);
        let roots = super::generation::roots(settings, derived);
        Self::over(remote, &roots, mutual, *shared, clock)
    }

    /// The same for tools: they show a certificate wherever one is wanted.
    ///
    /// Errors when TLS cannot be set up.
    pub fn of_tool(
        remote: &RemoteDatabroker,
        settings: &Settings,
        shared: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let derived = DerivedAuthority::new(&shared)?;
        let roots = super::generation::roots(settings, &derived);
        Self::over(remote, &roots, Some(&derived), shared, clock)
    }

    /// The same for tools that have no configuration at hand: the roots of the system and the authority that comes from
    /// the shared secret are trusted.
    ///
    /// Errors when TLS cannot be set up.
    pub fn of_secret(
        remote: &RemoteDatabroker,
        shared: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let derived = DerivedAuthority::new(&shared)?;
        Self::over(remote, derived.ca_pem().as_bytes(), Some(&derived), shared, clock)
    }

    fn over(
        remote: &RemoteDatabroker,
        roots: &[u8],
        mutual: Option<&DerivedAuthority>,
        shared: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let mut tls = services::client(roots, pattern(remote)?, mutual)?;
        let unprepared = Arc::<Unprepared>::default();
        if mutual.is_none() {
            tls.client_auth_cert_resolver = Arc::<Unprepared>::clone(&unprepared);
        }
        let tls = TlsConnector::from(Arc::new(tls));
        let endpoints = remote
            .endpoints
            .iter()
            .map(|origin| Endpoint::new(origin.clone(), remote.server_name.as_deref(), &tls))
            .collect::<anyhow::Result<_>>()
            .context("databroker_service_url")?;
        Ok(Self {
            dialer: Dialer::new(endpoints, unprepared),
            token: Arc::new(move || service_token::sign(&shared, clock.now().as_second())),
        })
    }

    /// What carries calls to whichever can be reached, and what makes their tokens.
    pub fn parts(&self) -> (Transport, Token) {
        (Transport::new(self.dialer.clone()), Arc::clone(&self.token))
    }

    /// A client of whichever can be reached.
    pub fn client(&self) -> Remote {
        self.client_of(self.dialer.clone())
    }

    fn client_of(&self, dialer: Dialer) -> Remote {
        Remote::new(Transport::new(dialer), Arc::clone(&self.token), CALL)
    }

    /// A client for the node `id` that passes calls on.
    ///
    /// Errors when no header can hold its name.
    pub fn forwarding(&self, id: &str) -> anyhow::Result<Remote> {
        let transport = Transport::new(self.dialer.clone());
        Remote::forwarding(transport, Arc::clone(&self.token), CALL, id).context("databroker_cluster_node_id")
    }
}
