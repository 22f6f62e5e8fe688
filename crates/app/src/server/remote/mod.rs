//! The databroker of another process: the way there, and whether those behind its name are one.

mod dial;
mod instances;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::remote::{Remote, Token, Transport};
use pomerium_certs::{DerivedAuthority, services};
use pomerium_config::settings::{RemoteDatabroker, Settings};
use pomerium_crypto::service_token;
use tokio_rustls::TlsConnector;

use self::dial::{Dialer, Endpoint};
pub use self::instances::watch as watch_instances;

/// How long a call may take; streams may take for ever.
const CALL: Duration = Duration::from_secs(10);

/// The way to the databrokers of this installation. Nothing is connected before it is asked for something.
#[derive(Clone)]
pub struct Way {
    dialer: Dialer,
    token: Token,
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
        let tls = services::client(&super::generation::roots(settings, derived), mutual)?;
        let tls = TlsConnector::from(Arc::new(tls));
        let endpoints = remote
            .endpoints
            .iter()
            .map(|origin| Endpoint::new(origin.clone(), remote.server_name.as_deref(), &tls))
            .collect::<anyhow::Result<_>>()
            .context("databroker_service_url")?;
        let shared = *shared;
        Ok(Self {
            dialer: Dialer::new(endpoints),
            token: Arc::new(move || service_token::sign(&shared, clock.now().as_second())),
        })
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
