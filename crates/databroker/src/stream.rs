//! The streams of the databroker. They read from the store at the pace of their reader; nothing waits for
//! them, and they keep nothing open.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use futures_util::StreamExt;
use futures_util::stream;
use pomerium_api::databroker::{Error, Latest, Record, RecordStream, Versions};
use tokio::sync::watch;

use crate::store::{Records, Store};

/// How many entries of the change log are looked at in one go.
const BATCH: usize = 64;

/// The records, then the versions.
pub(crate) fn latest(versions: Versions, records: Records) -> RecordStream<Latest> {
    let records = stream::iter(records.map(|record| record.map(Latest::Record)));
    records
        .chain(stream::iter([Ok(Latest::Versions(versions))]))
        .boxed()
}

/// Changes after `from`, without end. Ends after the first error.
pub(crate) fn changes<S: Store>(
    store: &Arc<S>,
    closed: watch::Receiver<bool>,
    record_type: &str,
    from: Versions,
) -> Result<RecordStream<Record>, Error> {
    // Before the first read, so that no change is missed in between.
    let changed = store.watch();
    store.counters()?.check(from)?;
    let follower = Follower {
        store: Arc::downgrade(store),
        changed,
        closed,
        record_type: record_type.to_owned(),
        position: from,
        pending: VecDeque::new(),
    };
    Ok(stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(record) => Some((Ok(record), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

struct Follower<S> {
    store: Weak<S>,
    changed: watch::Receiver<()>,
    closed: watch::Receiver<bool>,
    record_type: String,
    position: Versions,
    pending: VecDeque<Record>,
}

impl<S: Store> Follower<S> {
    async fn next(&mut self) -> Result<Record, Error> {
        loop {
            if *self.closed.borrow() {
                return Err(closed());
            }
            if let Some(record) = self.pending.pop_front() {
                return Ok(record);
            }
            self.changed.mark_unchanged();
            if self.read_more()? {
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => changed.map_err(|_| closed())?,
                _ = self.closed.wait_for(|closed| *closed) => return Err(closed()),
            }
        }
    }

    /// Reads the next part of the change log; false when there is no more for now.
    fn read_more(&mut self) -> Result<bool, Error> {
        let store = self.store.upgrade().ok_or_else(closed)?;
        let changes = store.changes(&self.record_type, self.position, BATCH)?;
        let moved = changes.seen > self.position.latest_record_version;
        self.position.latest_record_version = changes.seen;
        self.pending = changes.records.into();
        Ok(moved)
    }
}

fn closed() -> Error {
    Error::Unavailable("the databroker is closed".into())
}
