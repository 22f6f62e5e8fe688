//! What the cache tells of how it follows.

use std::time::Duration;

use futures_util::FutureExt;
use pomerium_api::databroker::{Databroker, SyncCall, SyncObserver, SyncState, Versions};
use pomerium_api::records::to_record;
use tokio::sync::{mpsc, oneshot};

use crate::world::{session, still};

/// What was told.
#[derive(Debug, PartialEq)]
enum Word {
    State(SyncState),
    Reached(u64),
    Asked(SyncCall),
    Failed(SyncCall),
    Cleared,
    Updated,
}

use Word::{Asked, Cleared, Failed, Reached, State, Updated};

struct Ear(mpsc::UnboundedSender<Word>);

impl Ear {
    fn hear(&self, word: Word) {
        self.0.send(word).unwrap();
    }
}

impl SyncObserver for Ear {
    fn state(&self, state: SyncState) {
        self.hear(State(state));
    }
    fn reached(&self, at: Versions) {
        self.hear(Reached(at.latest_record_version));
    }
    fn asked(&self, call: SyncCall) {
        self.hear(Asked(call));
    }
    fn failed(&self, call: SyncCall) {
        self.hear(Failed(call));
    }
    fn cleared(&self, _: Duration) {
        self.hear(Cleared);
    }
    fn updated(&self, _: Duration) {
        self.hear(Updated);
    }
}

#[tokio::test]
async fn it_tells_how_it_follows_and_when_that_breaks() {
    let (link, _, records) = still();
    let (ear, mut told) = mpsc::unbounded_channel();
    link.put(vec![to_record(&session("a", "member"))]).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = tokio::spawn(async move {
        records.run_observed(stopped.map(drop), &Ear(ear)).await;
    });
    for word in [
        State(SyncState::Pending),
        Asked(SyncCall::SyncLatest),
        Updated,
        Cleared,
        Reached(1),
        Asked(SyncCall::Sync),
        State(SyncState::Active),
    ] {
        assert_eq!(told.recv().await, Some(word));
    }
    link.put(vec![to_record(&session("b", "member"))]).await.unwrap();
    for word in [Updated, Reached(2)] {
        assert_eq!(told.recv().await, Some(word));
    }
    link.cut().await;
    // It goes on from where it was as soon as it can.
    for word in [
        Failed(SyncCall::Sync),
        State(SyncState::Pending),
        Asked(SyncCall::Sync),
        Failed(SyncCall::Sync),
        State(SyncState::Pending),
    ] {
        assert_eq!(told.recv().await, Some(word));
    }
    link.up.send_replace(true);
    let again = async { while told.recv().await != Some(State(SyncState::Active)) {} };
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .unwrap();
    drop(stop);
    run.await.unwrap();
    assert_eq!(told.recv().await, Some(State(SyncState::Inactive)));
    assert_eq!(told.recv().await, None);
}
