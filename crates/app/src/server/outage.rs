//! The records are out of reach, because another process keeps them or PostgreSQL is gone: what is open ends when the time is over for which people may work on.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::Server;

/// How often the clock is looked at once the time should be over: it may have been set.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for outages for as long as the server runs.
pub fn watch(server: &Arc<Server>) {
    let Some(outages) = server.core.records.outages() else {
        return;
    };
    let limit = server.settings().internal.outage_limit;
    tokio::spawn(follow(Arc::downgrade(server), outages, limit));
}

async fn follow(server: Weak<Server>, mut outages: watch::Receiver<bool>, limit: Duration) {
    while outages.wait_for(|lost| *lost).await.is_ok() {
        tracing::error!(
            limit_s = limit.as_secs(),
            "databroker: it cannot be reached; people who are signed in work on for a while, nobody can sign in"
        );
        tokio::select! {
            () = over(&server, limit) => {}
            _ = outages.wait_for(|lost| !*lost) => {
                tracing::info!("databroker: it can be reached again");
                continue;
            }
        }
        let Some(running) = server.upgrade() else { return };
        tracing::error!(
            "databroker: it could not be reached for too long; only what is open to everybody is served"
        );
        running.dataplane.people_changed(&|_| true);
        drop(running);
        if outages.wait_for(|lost| !*lost).await.is_err() {
            return;
        }
        tracing::info!("databroker: it can be reached again");
    }
}

/// Waits until the limit has passed.
async fn over(server: &Weak<Server>, limit: Duration) {
    tokio::time::sleep(limit).await;
    while let Some(running) = server.upgrade() {
        if running.core.records.out_of_touch(running.core.clock.now()) {
            return;
        }
        drop(running);
        tokio::time::sleep(LOOK).await;
    }
}
