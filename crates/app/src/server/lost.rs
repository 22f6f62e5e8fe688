//! Whoever loses what they were let in for loses what they have open: tunnels and streams are judged again when records
//! change, and as time passes (spec policy.md 8; they end within a second).

use std::sync::{Arc, Weak};
use std::time::Duration;

use pomerium_api::synced::SyncedRecords;

use super::Server;

/// Changes come in crowds; each crowd is looked at once.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the time is looked at.
const BEAT: Duration = Duration::from_millis(500);

/// Follows the records and the time for as long as the server runs.
pub fn watch(server: &Arc<Server>) {
    let records = Arc::clone(&server.core.records);
    tokio::spawn(follow(Arc::downgrade(server), records));
    tokio::spawn(tick(Arc::downgrade(server)));
}

async fn follow(server: Weak<Server>, records: Arc<SyncedRecords>) {
    let mut changes = records.changes();
    while changes.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        changes.mark_unchanged();
        let Some(server) = running(&server) else { return };
        server.dataplane.records_changed();
    }
}

async fn tick(server: Weak<Server>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let Some(server) = running(&server) else { return };
        server.dataplane.time_passed();
    }
}

fn running(server: &Weak<Server>) -> Option<Arc<Server>> {
    server.upgrade().filter(|server| !server.core.stop.is_cancelled())
}
