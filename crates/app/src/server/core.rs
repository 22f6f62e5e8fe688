//! What lives as long as the process: clock, keys, records, metrics.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_api::databroker::Databroker;
use pomerium_api::synced::SyncedRecords;
use pomerium_certs::DerivedAuthority;
use pomerium_certs::acme::Challenges;
use pomerium_config::settings::{DatabrokerSettings, Settings};
use pomerium_crypto::jwt::SigningKey;
use pomerium_databroker::cluster::Role;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::autocert::Autocert;
use super::cluster;
use super::observed::{self, Observed};
use super::store::{self, Broker};
use super::syncers::SyncerMetrics;
use super::tokens::Tokens;
use crate::handover::predecessor::Conversation;
use crate::health::{Health, Status};
use crate::telemetry::guard::Guards;
use crate::telemetry::metrics::{self, ProcessMetrics};

/// Longest wait for the first copy of the records at the start.
const FIRST_SYNC: Duration = Duration::from_secs(30);

/// The long-lived parts.
pub struct Core {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The shared secret.
    pub shared: [u8; 32],
    /// The authority that comes from it (`tls_derive`). Kept, because its own certificate is signed anew each time it is
    /// made, and whoever trusts it would seem to trust another one.
    pub derived: DerivedAuthority,
    /// Signs assertions.
    pub signing_key: Arc<SigningKey>,
    /// Records.
    pub broker: Broker,
    /// The local copy that requests are judged by.
    pub records: Arc<SyncedRecords>,
    /// Every metric of the process.
    pub registry: Registry,
    /// Metrics of the program itself.
    pub process: ProcessMetrics,
    /// Metrics of whoever follows the databroker.
    pub syncers: SyncerMetrics,
    /// What stands before the metrics.
    pub metrics_guard: Guards,
    /// Tokens that upstreams are shown.
    pub tokens: Arc<Tokens>,
    /// State of every part.
    pub health: Arc<Health>,
    /// What certificate authorities may ask at this moment.
    pub challenges: Arc<Challenges>,
    /// Certificates by ACME.
    pub autocert: Autocert,
    /// Ends background tasks.
    pub stop: CancellationToken,
}

impl Core {
    /// Opens the store or prepares the way to the databroker that has it, prepares keys and metrics; see
    /// [`Self::wait_for_records`].
    /// `before` is the process that has the store now, if this one takes over from another.
    pub async fn start(settings: &Settings, before: Option<&mut Conversation>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let shared = secret(settings.secrets.shared.expose(), "shared_secret")?;
        let registry = metrics::registry(settings)?;
        let process = ProcessMetrics::register(&registry)?;
        let syncers = SyncerMetrics::register(&registry)?;
        let autocert = Autocert::new(&registry)?;
        let health = Arc::new(Health::measured(settings.services, &registry)?);
        let stop = CancellationToken::new();
        let waiting = before.is_some();
        if let Some(before) = before {
            before.ask_for_store().await?;
        }
        let derived = DerivedAuthority::new(&shared)?;
        let mut broker = store::open(settings, (&shared, &derived), Arc::clone(&clock), waiting).await?;
        let check = match &settings.internal.databroker {
            None => observed::OWN,
            Some(_) => observed::OTHER,
        };
        let observed = Arc::new(Observed::new(broker.handle, Arc::clone(&health), check));
        broker.handle = Arc::clone(&observed) as Arc<dyn Databroker>;
        health.report(check, Status::Running);
        if settings.internal.databroker.is_none() {
            describe_store(&health, &settings.databroker);
            tokio::spawn(observed.watch_damage(stop.clone()));
        }
        if let Some(group) = &broker.group {
            let watched = cluster::Watched::new(&registry, Arc::clone(&health), Arc::clone(&clock))?;
            tokio::spawn(watched.run(group.status.clone(), stop.clone()));
        }
        let handle = Arc::clone(&broker.handle);
        let judges = settings.services.serve_people() || settings.services.authorize;
        let records = if !judges && settings.internal.databroker.is_none() {
            SyncedRecords::of_configuration(handle)
        } else if are_elsewhere(settings) {
            SyncedRecords::of_another_process(handle, Arc::clone(&clock), settings.internal.outage_limit)
        } else {
            SyncedRecords::new(handle)
        };
        records.keep(pomerium_proxy::session_parts(settings));
        start_following(&records, &syncers, &stop);
        let signing_key = Arc::new(signing_key(settings, &shared)?);
        let tokens = Tokens::new(Arc::clone(&clock), tokio::runtime::Handle::current());
        Ok(Self {
            tokens,
            clock,
            derived,
            shared,
            signing_key,
            broker,
            records,
            registry,
            process,
            syncers,
            metrics_guard: Guards::default(),
            health,
            challenges: Arc::default(),
            autocert,
            stop,
        })
    }
}

impl Core {
    /// Waits until the records are here. Those of another process are waited for as long as it takes: an
    /// installation whose processes start in any order comes up.
    pub async fn wait_for_records(&self, settings: &Settings) -> anyhow::Result<()> {
        if settings.internal.databroker.is_some() || self.broker.group.is_some() {
            self.records.wait_ready().await;
        } else {
            tokio::time::timeout(FIRST_SYNC, self.records.wait_ready())
                .await
                .context("databroker: the records could not be read within 30 s; is the disk answering?")?;
        }
        for name in [
            "databroker.sync.initial",
            "databroker.cluster",
            "config.databroker.build",
        ] {
            self.health.report(name, Status::Running);
        }
        Ok(())
    }
}

/// Keeps `records` in step with the databroker until `stop`.
fn start_following(records: &Arc<SyncedRecords>, syncers: &SyncerMetrics, stop: &CancellationToken) {
    let (records, observer) = (Arc::clone(records), syncers.of("", "records"));
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { records.run_observed(stopped, &*observer).await });
}

/// Says what keeps the records of this process. It leads, unless its place among others says something else.
fn describe_store(health: &Health, store: &DatabrokerSettings) {
    let backend = match store {
        DatabrokerSettings::Memory => "memory",
        DatabrokerSettings::File(_) => "file",
        DatabrokerSettings::Postgres(_) => "postgres",
    };
    health.describe(observed::OWN, "backend", backend);
    cluster::describe(health, &Role::Leads);
}

/// Whether the records may be out of reach while this process runs: those of another process, and of a server of their
/// own.
fn are_elsewhere(settings: &Settings) -> bool {
    let internal = &settings.internal;
    // One that leads may have to give way.
    internal.databroker.is_some()
        || internal.cluster.is_some()
        || matches!(settings.databroker, DatabrokerSettings::Postgres(_))
}

pub(crate) fn secret(bytes: &[u8], name: &str) -> anyhow::Result<[u8; 32]> {
    bytes
        .try_into()
        .with_context(|| format!("{name} must be 32 bytes"))
}

fn signing_key(settings: &Settings, shared: &[u8; 32]) -> anyhow::Result<SigningKey> {
    match &settings.secrets.signing_key {
        Some(pem) => SigningKey::from_pem(pem.expose()).context("signing_key"),
        None => Ok(SigningKey::derived(shared)),
    }
}
