//! The streams of the databroker. They read from the store at the pace of their reader; nothing waits for
//! them, and they keep nothing open.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use futures_util::{StreamExt, stream};
use pomerium_api::databroker::{Error, Latest, Record, RecordStream, Versions};
use tokio::sync::watch;

use crate::store::{Records, Store};

/// How many entries of the change log are looked at in one go.
const BATCH: usize = 64;

/// The records, then the versions.
pub(crate) fn latest(versions: Versions, records: Records) -> RecordStream<Latest> {
    records
        .map(|record| record.map(Latest::Record))
        .chain(stream::iter([Ok(Latest::Versions(versions))]))
        .boxed()
}

/// Changes after `from`; without end if it is to `wait`, else until there is no more for now. Ends after the first
/// error.
pub(crate) async fn changes<S: Store>(
    store: &Arc<S>,
    closed: watch::Receiver<bool>,
    record_type: &str,
    from: Versions,
    wait: bool,
) -> Result<RecordStream<Record>, Error> {
    // Before the first read, so that no change is missed in between.
    let changed = store.watch();
    store.counters().await?.check(from)?;
    let follower = Follower {
        store: Arc::downgrade(store),
        changed,
        closed,
        record_type: record_type.to_owned(),
        position: from,
        pending: VecDeque::new(),
        wait,
    };
    Ok(stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(record)) => Some((Ok(record), Some(follower))),
            Ok(None) => None,
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
    wait: bool,
}

impl<S: Store> Follower<S> {
    /// The next change; `None` when there is no more and it is not to wait.
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if *self.closed.borrow() {
                return Err(closed());
            }
            if let Some(record) = self.pending.pop_front() {
                return Ok(Some(record));
            }
            self.changed.mark_unchanged();
            if self.read_more().await? {
                continue;
            }
            if !self.wait {
                return Ok(None);
            }
            tokio::select! {
                changed = self.changed.changed() => changed.map_err(|_| closed())?,
                _ = self.closed.wait_for(|closed| *closed) => return Err(closed()),
            }
        }
    }

    /// Reads the next part of the change log; false when there is no more for now.
    async fn read_more(&mut self) -> Result<bool, Error> {
        let store = self.store.upgrade().ok_or_else(closed)?;
        let changes = match store.changes(&self.record_type, self.position, BATCH).await {
            // Not to be skipped, and it will be no better later: the latest records go without it.
            Err(Error::Damaged(why)) => {
                tracing::error!(error = why, "whoever follows the changes has to start over");
                return Err(Error::Resync);
            }
            changes => changes?,
        };
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
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use jiff::Timestamp;
    use pomerium_api::databroker::{Options, Page, Query};

    use super::*;
    use crate::MemoryStore;
    use crate::conformance::{CATS, record};
    use crate::store::{Changes, Counters, Inventory, Registered, Write, Written};

    /// Someone writes at the worst moment: when a reader has just seen that there is nothing more.
    struct Racing {
        inner: MemoryStore,
        raced: AtomicBool,
    }

    impl Store for Racing {
        fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>> {
            self.inner.counters()
        }
        fn get<'a>(
            &'a self,
            record_type: &'a str,
            id: &'a str,
        ) -> BoxFuture<'a, Result<Option<Record>, Error>> {
            self.inner.get(record_type, id)
        }
        fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>> {
            self.inner.select(query)
        }
        fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
            self.inner.types()
        }
        fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
            self.inner.options(record_type)
        }
        fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
            self.inner.all_options()
        }
        fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>> {
            self.inner.latest(record_type)
        }
        fn changes<'a>(
            &'a self,
            record_type: &'a str,
            from: Versions,
            limit: usize,
        ) -> BoxFuture<'a, Result<Changes, Error>> {
            let changes = self.inner.changes(record_type, from, limit);
            if !self.raced.swap(true, Ordering::SeqCst) {
                let write = Write::Put(vec![record(CATS, "tom", "x")]);
                let written = self.inner.write(write, Timestamp::UNIX_EPOCH).now_or_never();
                assert!(matches!(written, Some(Ok(_))));
            }
            changes
        }
        fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
            self.inner.write(write, now)
        }
        fn services(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Registered>, Error>> {
            self.inner.services(now)
        }
        fn watch_services(&self) -> watch::Receiver<()> {
            self.inner.watch_services()
        }
        fn watch(&self) -> watch::Receiver<()> {
            self.inner.watch()
        }
        fn inspect(&self) -> BoxFuture<'_, Result<Inventory, Error>> {
            self.inner.inspect()
        }
    }

    #[tokio::test]
    async fn a_write_between_reading_and_waiting_is_not_missed() {
        let store = Arc::new(Racing {
            inner: MemoryStore::new(),
            raced: AtomicBool::new(false),
        });
        let (_open, closed) = watch::channel(false);
        let here = store.counters().await.unwrap().versions();
        let mut stream = changes(&store, closed, "", here, true).await.unwrap();
        let next = stream.next().now_or_never().expect("it sleeps over a change");
        assert_eq!(next.unwrap().unwrap().id, "tom");
    }
}
