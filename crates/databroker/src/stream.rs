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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use jiff::Timestamp;
    use pomerium_api::databroker::Page;

    use super::*;
    use crate::MemoryStore;
    use crate::conformance::{CATS, record};
    use crate::store::{Changes, Counters, Write, Written};

    /// Someone writes at the worst moment: when a reader has just seen that there is nothing more.
    struct Racing {
        inner: MemoryStore,
        raced: AtomicBool,
    }

    impl Store for Racing {
        fn counters(&self) -> Result<Counters, Error> {
            self.inner.counters()
        }
        fn get(&self, record_type: &str, id: &str) -> Result<Option<Record>, Error> {
            self.inner.get(record_type, id)
        }
        fn list(&self, record_type: &str, offset: u64, limit: u64) -> Result<Page, Error> {
            self.inner.list(record_type, offset, limit)
        }
        fn latest(&self, record_type: &str) -> Result<(Versions, Records), Error> {
            self.inner.latest(record_type)
        }
        fn changes(&self, record_type: &str, from: Versions, limit: usize) -> Result<Changes, Error> {
            let changes = self.inner.changes(record_type, from, limit)?;
            if !self.raced.swap(true, Ordering::SeqCst) {
                let write = Write::Put(vec![record(CATS, "tom", "x")]);
                let written = self.inner.write(write, Timestamp::UNIX_EPOCH).now_or_never();
                assert!(matches!(written, Some(Ok(_))));
            }
            Ok(changes)
        }
        fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
            self.inner.write(write, now)
        }
        fn watch(&self) -> watch::Receiver<()> {
            self.inner.watch()
        }
    }

    #[tokio::test]
    async fn a_write_between_reading_and_waiting_is_not_missed() {
        let store = Arc::new(Racing {
            inner: MemoryStore::new(),
            raced: AtomicBool::new(false),
        });
        let (_open, closed) = watch::channel(false);
        let here = store.counters().unwrap().versions();
        let mut stream = changes(&store, closed, "", here).unwrap();
        let next = stream.next().now_or_never().expect("it sleeps over a change");
        assert_eq!(next.unwrap().unwrap().id, "tom");
    }
}
