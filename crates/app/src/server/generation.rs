//! What a reload replaces. It is built aside as a whole: if any part cannot be built, nothing changes.

use std::sync::Arc;

use anyhow::Context;
use pomerium_authenticate::{Authenticate, Deps, HostCheck, State};
use pomerium_certs::acme::Plan;
use pomerium_config::settings::Settings;
use pomerium_identity::ReqwestClient;
use pomerium_proxy::Snapshot;

use super::certificates::Configured;
use super::core::Core;

/// Everything that is made from one version of the settings.
pub struct Generation {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Routes, policy and rules for the data plane.
    pub snapshot: Arc<Snapshot>,
    /// Server certificates.
    pub certificates: Configured,
    /// What to get by ACME.
    pub plan: Plan,
    /// Sign-in.
    pub authenticate: Arc<Authenticate>,
}

impl Generation {
    /// Builds all parts. `previous` lends what has not changed; `state` is what sign-in keeps over reloads.
    pub fn build(
        mut settings: Settings,
        core: &Core,
        state: Arc<State>,
        previous: Option<&Snapshot>,
    ) -> anyhow::Result<Self> {
        if settings.tls_derive.is_some() {
            // Services of one cluster trust each other without files.
            settings.extra_roots.push(b'\n');
            settings
                .extra_roots
                .extend_from_slice(core.derived.ca_pem().as_bytes());
        }
        let snapshot = Arc::new(Snapshot::build(&settings, previous)?);
        let certificates = Configured::load(&settings, core)?;
        let plan = core.autocert.plan(&settings, &certificates)?;
        let http = ReqwestClient::new(&settings.extra_roots).context("certificate_authority")?;
        let hosts: HostCheck = {
            let snapshot = Arc::clone(&snapshot);
            Arc::new(move |authority| snapshot.table.knows_host(authority))
        };
        let deps = Deps {
            broker: Arc::clone(&core.broker.handle),
            http: Arc::new(http),
            clock: Arc::clone(&core.clock),
            hosts,
            site: snapshot.site(),
            state,
        };
        let authenticate = Authenticate::new(&settings, deps).context("authenticate")?;
        Ok(Self {
            settings: Arc::new(settings),
            snapshot,
            certificates,
            plan,
            authenticate,
        })
    }
}
