//! Certificates by ACME for the running program: what the settings ask for becomes a plan for the keeper, and what the
//! keeper has goes to the listeners, the metrics and the health checks.

mod observed;
mod options;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pomerium_certs::acme::{Keeper, Options, Plan};
use pomerium_certs::storage::Storage;
use pomerium_config::settings::{AutocertStorage, Settings};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

pub use self::observed::AutocertMetrics;
use self::observed::Observed;
use super::certificates::{Certificates, Configured};
use super::core::Core;

/// How long the start waits for a storage that is slow to show its certificates.
const FIRST_LOAD: Duration = Duration::from_secs(10);

/// The way from settings to the keeper.
pub struct Autocert {
    plans: watch::Sender<Plan>,
    /// The storage of the plan in force: kept while its setting stays, so that the keeper sees that it is the same.
    opened: Mutex<Option<Arc<Opened>>>,
    metrics: AutocertMetrics,
}

/// A plan that is not in force yet, with the storage that it uses.
#[derive(Default)]
pub struct Planned {
    plan: Plan,
    opened: Option<Arc<Opened>>,
}

/// A storage, what asked for it, and what is done for it until nobody plans with it any more.
struct Opened {
    setting: AutocertStorage,
    storage: Arc<dyn Storage>,
    _following: DropGuard,
}

impl Autocert {
    /// Nothing is planned yet.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            plans: watch::Sender::new(Plan::default()),
            opened: Mutex::default(),
            metrics: AutocertMetrics::register(registry)?,
        })
    }

    /// What `settings` ask for. Names that a configured certificate is for are not ordered (spec proxy.md 1.3).
    ///
    /// Errors when the storage or the trusted authority cannot be used.
    pub fn plan(&self, settings: &Settings, configured: &Configured, core: &Core) -> anyhow::Result<Planned> {
        let Some(autocert) = &settings.autocert else {
            return Ok(Planned::default());
        };
        let opened = self.open(&autocert.storage, settings, core)?;
        let mut options: Options = options::of(autocert, Arc::clone(&opened.storage))?;
        options.tls_challenge = !settings.listener.insecure;
        options.names.retain(|name| !configured.covers(name));
        let plan = Plan {
            options: Some(Arc::new(options)),
            configured: configured.certificates.clone(),
        };
        Ok(Planned {
            plan,
            opened: Some(opened),
        })
    }

    /// The storage in force if it is the one that is wanted, else a new one. The one in force stays so: the plan may not
    /// come to be.
    fn open(
        &self,
        wanted: &AutocertStorage,
        settings: &Settings,
        core: &Core,
    ) -> anyhow::Result<Arc<Opened>> {
        if let Some(known) = self.opened.lock().as_ref()
            && known.setting == *wanted
        {
            return Ok(Arc::clone(known));
        }
        let stop = core.stop.child_token();
        let storage = options::open(wanted, settings, core, &stop)?;
        Ok(Arc::new(Opened {
            setting: wanted.clone(),
            storage,
            _following: stop.drop_guard(),
        }))
    }

    /// Hands a plan to the keeper.
    pub fn follow(&self, planned: Planned) {
        let Planned { plan, opened } = planned;
        *self.opened.lock() = opened;
        let was_off = self.plans.borrow().options.is_none();
        if was_off && plan.options.is_none() {
            return;
        }
        self.plans.send_replace(plan);
    }

    /// Starts the keeper with the first plan. What the storage has is served when this returns.
    ///
    /// The original orders what is missing before it begins to serve. Here the order follows in the background: the
    /// authority looks at our own listeners, which are not up yet, and an authority that is down or slow must not keep
    /// the hosts down that have their certificates. Only the storage is waited for, and not for long.
    /// What is returned ends when the keeper has, soon after the program is told to stop.
    pub async fn start(
        &self,
        planned: Planned,
        core: &Core,
        certificates: &Arc<Certificates>,
    ) -> JoinHandle<()> {
        let Planned { plan, opened } = planned;
        *self.opened.lock() = opened;
        let observed = Observed::new(
            Arc::clone(certificates),
            self.metrics.clone(),
            Arc::clone(&core.health),
        );
        let mut keeper = Keeper::new(
            Arc::clone(&core.clock),
            Arc::clone(&core.challenges),
            Arc::new(observed),
        );
        let mut plans = self.plans.subscribe();
        self.plans.send_replace(plan.clone());
        plans.mark_unchanged();
        if tokio::time::timeout(FIRST_LOAD, keeper.adopt(plan))
            .await
            .is_err()
        {
            tracing::error!(
                "autocert_dir: the storage is slow; its certificates are served as soon as it shows them"
            );
            plans.mark_changed();
        }
        tokio::spawn(keeper.run(plans, core.stop.clone()))
    }
}
