//! Who may read the metrics: TLS, client certificates and the password, as the settings in force say. A reload
//! exchanges them; only the address needs a restart.

use std::sync::Arc;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use pomerium_certs::{Alpn, CertStore, load_pair, server_config};
use pomerium_config::settings::{MetricsSettings, MetricsTls, Secret};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
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
    let store = Arc::new(CertStore::new(vec![loaded]));
    let plain = server_config(Arc::clone(&store), Alpn::Http1)?;
    let Some(pem) = &settings.client_ca else {
        return Ok(plain);
    };
    let provider = Arc::clone(plain.crypto_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), Arc::clone(&provider))
        .build()
        .context("metrics_client_ca")?;
    // No tickets: each connection shows its certificate.
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(store);
    config.ignore_client_order = plain.ignore_client_order;
    config.alpn_protocols = plain.alpn_protocols;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Every certificate of the bundle must count: one that is left out would refuse clients without a reason.
fn roots(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots
            .add(certificate.context("metrics_client_ca")?)
            .context("metrics_client_ca: a certificate cannot be a trust anchor")?;
    }
    if roots.is_empty() {
        bail!("metrics_client_ca: it holds no certificate");
    }
    Ok(roots)
}
