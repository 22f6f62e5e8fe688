//! Server certificates of one configuration.

use anyhow::Context;
use pomerium_certs::{LoadedCertificate, Validity, catch_all, load_pair};
use pomerium_config::settings::Settings;

/// The certificates in order of precedence, the generated one last where it is wanted. A certificate that has expired is
/// served all the same, and said so: refusing it would take every host down.
pub fn load(settings: &Settings, shared: &[u8; 32], now_unix: i64) -> anyhow::Result<Vec<LoadedCertificate>> {
    let mut all = Vec::new();
    for pair in &settings.certificates {
        let loaded = load_pair(&pair.origin, &pair.chain, pair.key.expose())?;
        warn_about_validity(&loaded, now_unix);
        all.push(loaded);
    }
    if settings.fallback_certificate || all.is_empty() {
        all.push(catch_all(shared).context("the generated certificate")?);
    }
    Ok(all)
}

fn warn_about_validity(certificate: &LoadedCertificate, now_unix: i64) {
    let names = certificate.names().join(", ");
    match certificate.validity(now_unix) {
        Validity::Good => {}
        Validity::EndsSoon { days } => {
            tracing::warn!(
                origin = certificate.origin(),
                names,
                days,
                "a certificate ends soon; renew it"
            );
        }
        Validity::Expired => {
            tracing::error!(
                origin = certificate.origin(),
                names,
                "a certificate has expired; browsers refuse it until it is renewed"
            );
        }
        Validity::NotYet => {
            tracing::warn!(
                origin = certificate.origin(),
                names,
                "a certificate begins later; is the clock right?"
            );
        }
    }
}
