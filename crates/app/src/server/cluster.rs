//! How a databroker that follows another one is doing, as health and metrics tell it.

use std::sync::Arc;
use std::time::Duration;

use pomerium_api::clock::Clock;
use pomerium_databroker::cluster::{Role, Status};
use prometheus::{Gauge, IntGauge, Registry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// The check that tells whether it follows.
const CHECK: &str = "databroker.cluster";
/// How often the age of the copy is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// What is told.
pub struct Watched {
    leads: IntGauge,
    changes: IntGauge,
    age: Gauge,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
}

impl Watched {
    /// Errors when the registry has such metrics already.
    pub fn new(
        registry: &Registry,
        health: Arc<Health>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, prometheus::Error> {
        let leads = IntGauge::new(
            "pomerium_databroker_cluster_leader",
            "1 when this databroker leads, 0 when it follows another one",
        )?;
        let changes = IntGauge::new(
            "pomerium_databroker_cluster_lag_changes",
            "Changes of the leader that are not copied yet, as far as is known; -1 when they cannot be counted",
        )?;
        let age = Gauge::new(
            "pomerium_databroker_cluster_lag_seconds",
            "Seconds since this databroker was known to have everything; -1 before that",
        )?;
        registry.register(Box::new(leads.clone()))?;
        registry.register(Box::new(changes.clone()))?;
        registry.register(Box::new(age.clone()))?;
        Ok(Self {
            leads,
            changes,
            age,
            health,
            clock,
        })
    }

    /// Until `stop`, or until there is nobody to watch.
    pub async fn run(self, mut status: watch::Receiver<Status>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            self.tell(&status.borrow_and_update().clone());
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                changed = status.changed() => if changed.is_err() { return },
            }
        }
    }

    fn tell(&self, status: &Status) {
        let lag = status.lag(self.clock.now());
        self.leads.set(i64::from(status.role == Role::Leads));
        let changes = lag.changes.and_then(|changes| i64::try_from(changes).ok());
        self.changes.set(changes.unwrap_or(-1));
        self.age.set(lag.age.map_or(-1.0, |age| age.as_secs_f64()));
        describe(&self.health, &status.role);
        match (&status.role, &status.rival) {
            (Role::Alone(why) | Role::GaveWay(why), _) | (_, Some(why)) => {
                self.health.report_error(CHECK, why.as_str());
            }
            _ => match status.left_out.first() {
                Some((record_type, id)) => self.health.warn(
                    CHECK,
                    format!(
                        "records that the leader cannot read are missing in the copy here: {}, among them {id} of \
                         {record_type}; `pomerium databroker check` at the leader names them",
                        status.left_out.len()
                    ),
                ),
                None => self.health.recover(CHECK),
            },
        }
    }
}

/// Says what this databroker is to others.
pub fn describe(health: &Health, role: &Role) {
    health.describe(CHECK, "member", role.member());
}
