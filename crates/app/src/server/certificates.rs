//! Server certificates of one configuration.

use anyhow::Context;
use pomerium_certs::{DerivedAuthority, LoadedCertificate, catch_all, load_pair};
use pomerium_config::settings::Settings;

use super::core::Core;
use super::expiry;

/// The certificates in order of precedence, the generated one last where it is wanted. A certificate that has expired is
/// served all the same, and said so: refusing it would take every host down.
pub fn load(settings: &Settings, core: &Core) -> anyhow::Result<Vec<LoadedCertificate>> {
    let now = core.clock.now().as_second();
    let mut all = Vec::new();
    for pair in &settings.certificates {
        let loaded = load_pair(&pair.origin, &pair.chain, pair.key.expose())?;
        expiry::warn(&loaded, now);
        all.push(loaded);
    }
    all.extend(derived(settings, &core.derived)?);
    if settings.fallback_certificate || all.is_empty() {
        all.push(catch_all(&core.shared).context("the generated certificate")?);
    }
    Ok(all)
}

/// The certificate of `tls_derive`: for that domain, by the authority that every process with the same shared secret
/// has (spec config.md 8.4).
fn derived(settings: &Settings, authority: &DerivedAuthority) -> anyhow::Result<Option<LoadedCertificate>> {
    let issue = |domain: &String| authority.issue("tls_derive", std::slice::from_ref(domain));
    settings
        .tls_derive
        .as_ref()
        .map(issue)
        .transpose()
        .context("tls_derive")
}
