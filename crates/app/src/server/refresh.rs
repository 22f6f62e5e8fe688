//! Keeps sessions and users up to date with their identity provider, as one process at a time does: two would spend each
//! other's refresh tokens.

use std::sync::Arc;
use std::time::Duration;

use pomerium_api::databroker::{Leaser, Over};
use pomerium_api::pb::session::Session;
use pomerium_api::records::RecordMessage;
use pomerium_config::settings::Settings;
use pomerium_identity::refresh::{RefreshDeps, RefreshObserver, RefreshSettings, Refresher};

use super::control::Control;
use super::core::Core;
use super::last_errors::LastErrors;

/// The lease of whoever refreshes sessions: its name and time (spec databroker.md 7).
const LEASE: &str = "identity_manager";
const LEASE_TTL: Duration = Duration::from_secs(30);

/// Starts to wait for the turn of this process, and what is written down beside it.
///
/// Errors when the registry has such metrics already.
pub(super) fn start(settings: &Settings, core: &Core, control: &Arc<Control>) -> anyhow::Result<()> {
    let (broker, clock) = (Arc::clone(&core.broker.handle), Arc::clone(&core.clock));
    let control = Arc::clone(control);
    let refresh = RefreshSettings {
        at_id_token_expiry: settings.runtime_flags.refresh_session_at_id_token_expiration,
        ..RefreshSettings::DEFAULT
    };
    let stop = core.stop.clone();
    let errors = LastErrors::register(&core.registry, Arc::clone(&clock))?;
    tokio::spawn(Arc::clone(&errors).write_down(Arc::clone(&broker), stop.clone()));
    let leaser = Leaser::new(Arc::clone(&broker), LEASE, LEASE_TTL);
    let syncer = core.syncers.of(Session::TYPE, LEASE);
    let unwritten = Arc::default();
    let turn = move |over: Over| {
        let control = Arc::clone(&control);
        let deps = RefreshDeps {
            broker: Arc::clone(&broker),
            providers: Box::new(move |id| control.current().provider(id)),
            clock: Arc::clone(&clock),
            syncer: Arc::clone(&syncer),
            observer: Arc::clone(&errors) as Arc<dyn RefreshObserver>,
            unwritten: Arc::clone(&unwritten),
        };
        Refresher::new(deps, refresh.clone()).run(over.wait())
    };
    tokio::spawn(async move { leaser.run(stop.cancelled_owned(), turn).await });
    Ok(())
}
