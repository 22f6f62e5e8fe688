//! People who lose their session lose what they have open: tunnels and streams.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pomerium_api::synced::SyncedRecords;
use pomerium_authorize::Principal;

use super::Server;

/// Changes come in crowds; each crowd is looked at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Follows the records for as long as the server runs.
pub fn watch(server: &Arc<Server>) {
    let records = Arc::clone(&server.core.records);
    tokio::spawn(follow(Arc::downgrade(server), records));
}

async fn follow(server: Weak<Server>, records: Arc<SyncedRecords>) {
    let mut changes = records.changes();
    while changes.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        changes.mark_unchanged();
        let Some(server) = server.upgrade() else { return };
        if server.core.stop.is_cancelled() {
            return;
        }
        server
            .dataplane
            .people_changed(&|principal| is_gone(&records, principal));
    }
}

/// Whether the record that the request named is no more.
fn is_gone(records: &SyncedRecords, principal: &Principal) -> bool {
    if principal.service_account {
        records.service_account(&principal.session_id).is_none()
    } else {
        records.session(&principal.session_id).is_none()
    }
}
