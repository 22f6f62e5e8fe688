//! Test support: real parts around the real binary.
//!
//! Start at [`Environment`]: it writes a `config.yaml`, starts the program `pomerium` and waits until it
//! is ready. Around it stand identity providers ([`OidcProvider`] is the certified npm package,
//! [`ScriptedIdp`] lies on demand), upstreams ([`Upstream`] behaves, [`RawUpstream`] does not), and
//! three clients: [`Client`] with cookies, [`RawClient`] for bytes no HTTP library would send, and
//! [`Browser`]. Nothing here is linked into the product.
//!
//! Waiting is always for an event, bounded by [`PATIENCE`]; nothing sleeps in the hope that it is enough.
#![allow(
    clippy::unwrap_used,
    reason = "test support: a broken set-up should stop the test where it breaks"
)]

mod authority;
mod browser;
mod client;
mod client_certs;
mod collector;
mod dns;
mod environment;
mod executable;
pub mod ext_authz;
mod http3;
mod idp;
mod lines;
mod network;
mod pebble;
mod ports;
mod postgres;
mod primary_server;
mod program;
mod raw;
mod renewal_window;
pub mod routing;
mod serve;
mod shown;
mod soft_key;

pub mod tools;
mod upstream;

pub use authority::{Authority, Leaf};
pub use browser::{Browser, Look, Page};
pub use client::{Client, ClientOptions, Reply};
pub use client_certs::{Answer, ClientAuthority, ClientCertificate, ClientIdentity, Requests, TlsClient};
pub use collector::{Collector, Mood};
pub use dns::{Asked, NameServer, Says};
pub use environment::{Environment, EnvironmentBuilder, Route, SignIn};
pub use executable::write_executable;
pub use http3::{Http3Answer, Http3Client, Http3Reply};
pub use idp::{Account, OidcProvider, Refreshes, Script, ScriptedIdp};
pub use lines::Lines;
pub use network::Network;
pub use pebble::{Pebble, PebbleOptions};
pub use ports::{Port, lease};
pub use postgres::{Postgres, Tls as PostgresTls};
pub use primary_server::PrimaryServer;
pub use program::Program;
pub use raw::{RawClient, RawReply};
pub use renewal_window::RenewalWindow;
pub use shown::{Shown, shown};
pub use soft_key::{Answering, PRESENT_AND_VERIFIED, SoftKey};
pub use upstream::{Gate, RawUpstream, Recorded, Step, Upstream};

use std::time::Duration;

/// How long a test waits for something that must happen before it calls it missing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Makes aws-lc-rs the crypto provider of this process; any number of calls is fine.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// `future`, or an error that names `what` when [`PATIENCE`] runs out.
///
/// # Errors
/// The time is up.
pub async fn within<F: Future>(what: &str, future: F) -> anyhow::Result<F::Output> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| anyhow::anyhow!("waited {} s for {what}", PATIENCE.as_secs()))
}
