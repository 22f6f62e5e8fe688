//! The databroker of another process.

mod dial;

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

/// How long a call may take; streams may take for ever.
const CALL: Duration = Duration::from_secs(10);

/// A client of the databroker that `remote` names. Nothing is connected before it is asked for something.
///
/// Errors when TLS cannot be set up.
pub fn open(
    remote: &RemoteDatabroker,
    settings: &Settings,
    (shared, derived): (&[u8; 32], &DerivedAuthority),
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Remote> {
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
    let token: Token = Arc::new(move || service_token::sign(&shared, clock.now().as_second()));
    Ok(Remote::new(Transport::new(Dialer::new(endpoints)), token, CALL))
}
