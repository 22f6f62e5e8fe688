//! What a reload replaces. It is built aside as a whole: if any part cannot be built, nothing changes.

use std::sync::Arc;

use anyhow::Context;
use pomerium_authenticate::{Authenticate, Deps, HostCheck, State};
use pomerium_certs::DerivedAuthority;
use pomerium_config::settings::Settings;
use pomerium_identity::ReqwestClient;
use pomerium_proxy::{RouteTable, Snapshot};

use super::autocert::Planned;
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
    pub plan: Planned,
    /// Sign-in.
    pub authenticate: Arc<Authenticate>,
}

/// The extra roots of outbound TLS, PEM: those that are configured, and with `tls_derive` the authority that every process
/// of the installation has, so that its services trust each other without files.
pub fn roots(settings: &Settings, derived: &DerivedAuthority) -> Vec<u8> {
    let mut roots = settings.extra_roots.clone();
    if settings.tls_derive.is_some() {
        roots.push(b'\n');
        roots.extend_from_slice(derived.ca_pem().as_bytes());
    }
    roots
}

/// Which hosts are ours: those that the data plane answers for, or in a process that only signs people in, those of
/// the routes in its configuration.
fn hosts(settings: &Settings, snapshot: &Arc<Snapshot>) -> anyhow::Result<HostCheck> {
    if settings.services.proxy || settings.routes.is_empty() {
        let snapshot = Arc::clone(snapshot);
        return Ok(Arc::new(move |authority| snapshot.table.owns_host(authority)));
    }
    let any_port = settings.runtime_flags.match_any_incoming_port;
    let table = RouteTable::build(&settings.routes, &[], any_port)?;
    Ok(Arc::new(move |authority| table.owns_host(authority)))
}

impl Generation {
    /// Builds all parts. `previous` lends what has not changed; `state` is what sign-in keeps over reloads.
    pub fn build(
        mut settings: Settings,
        core: &Core,
        state: Arc<State>,
        previous: Option<&Snapshot>,
    ) -> anyhow::Result<Self> {
        settings.extra_roots = roots(&settings, &core.derived);
        let snapshot = Arc::new(Snapshot::build(&settings, previous)?);
        let certificates = Configured::load(&settings, core)?;
        let plan = core.autocert.plan(&settings, &certificates, core)?;
        let http = ReqwestClient::new(&settings.extra_roots).context("certificate_authority")?;
        let hosts = hosts(&settings, &snapshot)?;
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
