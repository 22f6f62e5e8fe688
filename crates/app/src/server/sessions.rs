//! What of sessions is kept here: what the settings in force read, and before a reload what the next ones will read as
//! well.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use pomerium_api::synced::{Parts, SyncedRecords};
use tokio::runtime::Handle;

/// How long new settings wait for what they read of sessions. After it they count all the same: a change that shuts
/// somebody out must not wait for a databroker. Who asks for what is not here yet is answered with one question to it,
/// or with 503.
const LONGEST: Duration = Duration::from_secs(20);

/// Keeps `parts` beside what is kept, and waits until every session here has them.
pub(super) async fn prepare(records: &Arc<SyncedRecords>, parts: Parts) {
    records.keep(records.kept().and(parts));
    if !tokio::time::timeout(LONGEST, records.wait_kept(parts))
        .await
        .unwrap_or(false)
    {
        late();
    }
}

/// The same for a thread that may wait.
pub(super) fn prepare_blocking(records: &Arc<SyncedRecords>, parts: Parts) {
    records.keep(records.kept().and(parts));
    let (told, answer) = mpsc::sync_channel(1);
    let waiting = Arc::clone(records);
    let task = Handle::current().spawn(async move {
        // Whoever waits may have gone.
        let _ = told.send(waiting.wait_kept(parts).await);
    });
    if !answer.recv_timeout(LONGEST).unwrap_or(false) {
        task.abort();
        late();
    }
}

fn late() {
    tracing::warn!(
        "databroker: tokens of sessions that the configuration reads now are not all here yet; each is asked for when it \
         is needed"
    );
}
