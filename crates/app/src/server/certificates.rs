//! Server certificates: those of one configuration, and what is served of them together with those by ACME.

use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use pomerium_certs::acme::Served;
use pomerium_certs::{CertStore, DerivedAuthority, LoadedCertificate, load_pair, load_pair_to_staple};
use pomerium_config::records::RecordProblem;
use pomerium_config::settings::{CertificatePair, Settings};

use super::core::Core;
use super::expiry;

/// What a configuration brings.
#[derive(Debug, Clone)]
pub struct Configured {
    /// In order of precedence.
    pub certificates: Vec<LoadedCertificate>,
    /// Those of records that cannot be used, and why.
    pub problems: Vec<RecordProblem>,
    /// Of `tls_derive`: behind those by ACME.
    derived: Option<LoadedCertificate>,
    /// The generated one, last of all.
    generated: Option<Generated>,
}

/// The generated certificate that fits every name.
#[derive(Debug, Clone)]
pub struct Generated {
    certificate: LoadedCertificate,
    /// Also beside others; otherwise only while there is no other.
    always: bool,
}

impl Configured {
    /// Reads the certificates of `settings`. One that has expired is served all the same, and said so: refusing it
    /// would take every host down.
    pub fn load(settings: &Settings, core: &Core) -> anyhow::Result<Self> {
        let now = core.clock.now().as_second();
        let mut certificates: Vec<Loaded<'_>> = Vec::with_capacity(settings.certificates.len());
        let mut problems = Vec::new();
        // A certificate that demands a staple can be used only where staples are cared for.
        let load = if settings.autocert.is_some() {
            load_pair_to_staple
        } else {
            load_pair
        };
        for pair in &settings.certificates {
            let loaded = match load(&pair.origin, &pair.chain, pair.key.expose()) {
                Ok(loaded) => loaded,
                Err(error) if pair.of_record => {
                    problems.push(RecordProblem {
                        record: pair.origin.clone(),
                        field: "certificate".into(),
                        message: error.problem.to_string(),
                    });
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            certificates.push((pair, loaded));
        }
        let certificates = without_overlaps(certificates);
        for certificate in &certificates {
            expiry::warn(certificate, now);
        }
        let always = settings.fallback_certificate;
        let derived = derived(settings, &core.derived)?;
        let generated = if always || (certificates.is_empty() && derived.is_none()) {
            let certificate = core.derived.catch_all().context("the generated certificate")?;
            Some(Generated { certificate, always })
        } else {
            None
        };
        Ok(Self {
            certificates,
            problems,
            derived,
            generated,
        })
    }

    /// Whether one of the certificates is for `name`.
    pub fn covers(&self, name: &str) -> bool {
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let fits = |known: &String| known == name || wildcard.as_ref() == Some(known);
        self.certificates
            .iter()
            .any(|certificate| certificate.names().iter().any(fits))
    }
}

/// A certificate, and what it was loaded from.
type Loaded<'s> = (&'s CertificatePair, LoadedCertificate);

/// Leaves out those of records that are for a name which a certificate of this host is for as well: whoever may write
/// records must not replace what the administrator of the machine serves.
fn without_overlaps(loaded: Vec<Loaded<'_>>) -> Vec<LoadedCertificate> {
    let local = loaded.iter().filter(|(pair, _)| !pair.of_record);
    let local: Vec<_> = local.map(|(_, certificate)| certificate.clone()).collect();
    let kept = loaded.into_iter().filter(|(pair, certificate)| {
        let shared = certificate.name_shared_with(&local).filter(|_| pair.of_record);
        if let Some(domain) = shared {
            let record = &pair.origin;
            tracing::error!(domain, record, "overlaps with local certs: skipped");
        }
        shared.is_none()
    });
    kept.map(|(_, certificate)| certificate).collect()
}

/// What listeners choose from. Two sides change it, a configuration and the keeper of certificates by ACME; neither
/// undoes the other.
#[derive(Debug)]
pub struct Certificates {
    store: Arc<CertStore>,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    configured: Configured,
    served: Served,
}

impl Certificates {
    /// With those of the configuration.
    pub fn new(configured: Configured) -> Self {
        let parts = Parts {
            configured,
            served: Served::default(),
        };
        Self {
            store: Arc::new(CertStore::new(parts.merged())),
            parts: Mutex::new(parts),
        }
    }

    /// Where listeners choose.
    pub fn store(&self) -> &Arc<CertStore> {
        &self.store
    }

    /// A new configuration; certificates by ACME stay.
    pub fn configure(&self, configured: Configured) {
        let mut parts = self.parts.lock();
        parts.configured = configured;
        self.store.swap(parts.merged());
    }

    /// New certificates by ACME, or new staples.
    pub fn serve(&self, served: Served) {
        let mut parts = self.parts.lock();
        parts.served = served;
        self.store.swap(parts.merged());
    }
}

impl Parts {
    /// Configured, then by ACME, then derived, then generated (spec proxy.md 1.3).
    fn merged(&self) -> Vec<LoadedCertificate> {
        let configured = self.configured.certificates.iter().map(|certificate| {
            let staple = self.served.staples.get(&certificate.fingerprint());
            match staple {
                Some(staple) => certificate.with_staple(Some(staple.clone())),
                None => certificate.clone(),
            }
        });
        let mut all: Vec<_> = configured
            .chain(self.served.certificates.iter().cloned())
            .chain(self.configured.derived.clone())
            .collect();
        if let Some(generated) = &self.configured.generated
            && (generated.always || all.is_empty())
        {
            all.push(generated.certificate.clone());
        }
        all
    }
}

/// The certificate of `tls_derive`: for that domain, by the authority that every process with the same shared secret
/// has (spec config.md 8.4).
fn derived(settings: &Settings, authority: &DerivedAuthority) -> anyhow::Result<Option<LoadedCertificate>> {
    let issue = |domain: &String| authority.standing("tls_derive", domain);
    settings
        .tls_derive
        .as_ref()
        .map(issue)
        .transpose()
        .context("tls_derive")
}
