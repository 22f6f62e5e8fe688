//! Who may read the metrics: TLS, client certificates and the password, as the settings in force say. A reload
//! exchanges them; only the address needs a restart.

use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use pomerium_certs::{Alpn, guarded_server_config, load_pair};
use pomerium_config::settings::{MetricsSettings, MetricsTls, Secret};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

/// What stands before the metrics.
#[derive(Clone, Default)]
pub struct Guard {
    /// TLS; plain when absent.
    pub tls: Option<TlsAcceptor>,
    /// `user:password`.
    pub basic_auth: Option<Secret>,
}

impl Guard {
    /// Prepares what the settings ask for.
    pub fn build(settings: &MetricsSettings) -> anyhow::Result<Self> {
        let tls = settings.tls.as_ref().map(tls_config).transpose()?;
        Ok(Self {
            tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            basic_auth: settings.basic_auth.clone(),
        })
    }
}

/// The guard in force.
#[derive(Clone, Default)]
pub struct Guards(Arc<ArcSwap<Guard>>);

impl Guards {
    /// The one for a new connection.
    pub fn current(&self) -> Arc<Guard> {
        self.0.load_full()
    }

    /// Exchanges it; open connections keep theirs.
    pub fn set(&self, guard: Guard) {
        self.0.store(Arc::new(guard));
    }
}

fn tls_config(settings: &MetricsTls) -> anyhow::Result<ServerConfig> {
    let pair = &settings.certificate;
    let loaded = load_pair(&pair.origin, &pair.chain, pair.key.expose()).context("metrics_certificate")?;
    guarded_server_config(loaded, settings.client_ca.as_deref(), Alpn::Http1).context("metrics_client_ca")
}
