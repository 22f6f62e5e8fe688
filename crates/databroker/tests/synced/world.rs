//! A databroker whose connection is cut and held back at will, and a cache that follows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use pomerium_api::clock::ManualClock;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, PutReply, Record, RecordStream, Versions,
};
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage, to_record, to_tombstone};
use pomerium_api::synced::SyncedRecords;
use pomerium_databroker::{MemoryStore, RETENTION, Server};
use tokio::sync::{Semaphore, oneshot, watch};

/// A connection that can be cut, and whose answers to `get` can be held back.
pub(crate) struct Link {
    pub(crate) server: Server<MemoryStore>,
    pub(crate) up: watch::Sender<bool>,
    /// Calls that failed because it was down.
    refused: AtomicUsize,
    gets: AtomicUsize,
    gate: watch::Sender<Option<Arc<Semaphore>>>,
    /// Snapshots that were begun.
    snapshots: AtomicUsize,
    /// Holds back what snapshots say, one permit an item.
    tap: watch::Sender<Option<Arc<Semaphore>>>,
}

impl Link {
    fn check(&self) -> Result<(), Error> {
        if *self.up.borrow() {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(Error::Unavailable("link down".into()))
    }

    /// Cuts it, and waits until that was noticed.
    pub(crate) async fn cut(&self) {
        self.up.send_replace(false);
        while self.refused.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Holds answers of `get` back, after they were read.
    pub(crate) fn hold(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.gate.send_replace(Some(gate.clone()));
        gate
    }

    /// Holds snapshots back that begin from now on: each item waits for a permit, after it was read.
    pub(crate) fn hold_snapshots(&self) -> Arc<Semaphore> {
        let tap = Arc::new(Semaphore::new(0));
        self.tap.send_replace(Some(tap.clone()));
        tap
    }

    /// Waits until that many snapshots were begun.
    pub(crate) async fn until_snapshots(&self, count: usize) {
        while self.snapshots.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }
}

impl Databroker for Link {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async { self.check().and(self.server.versions().await) }.boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        async move {
            self.check()?;
            let answer = self.server.get(record_type, id).await;
            self.gets.fetch_add(1, Ordering::SeqCst);
            let gate = self.gate.borrow().clone();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            answer
        }
        .boxed()
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        self.server.put(records)
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        async move {
            self.check()?;
            let items: Vec<_> = self.server.sync_latest(record_type).await?.collect().await;
            self.snapshots.fetch_add(1, Ordering::SeqCst);
            let tap = self.tap.borrow().clone();
            let held = stream::iter(items).then(move |item| {
                let tap = tap.clone();
                async move {
                    if let Some(tap) = tap {
                        tap.acquire().await.unwrap().forget();
                    }
                    item
                }
            });
            Ok(held.boxed())
        }
        .boxed()
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        async move {
            self.check()?;
            let stream = self.server.sync(record_type, from).await?;
            let mut up = self.up.subscribe();
            let cut = async move { drop(up.wait_for(|up| !up).await) };
            Ok(stream.take_until(Box::pin(cut)).boxed())
        }
        .boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        ready(Err(Error::Invalid("not by this".into()))).boxed()
    }
}

pub(crate) struct World {
    pub(crate) link: Arc<Link>,
    pub(crate) clock: ManualClock,
    pub(crate) records: Arc<SyncedRecords>,
    _stop: oneshot::Sender<()>,
}

pub(crate) fn session(id: &str, user_id: &str) -> Session {
    Session {
        id: id.into(),
        user_id: user_id.into(),
        ..Session::default()
    }
}

/// Nothing runs yet.
pub(crate) fn still() -> (Arc<Link>, ManualClock, Arc<SyncedRecords>) {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH + RETENTION * 10);
    let link = Arc::new(Link {
        server: Server::new(MemoryStore::new(), Arc::new(clock.clone())),
        up: watch::Sender::new(true),
        refused: AtomicUsize::new(0),
        gets: AtomicUsize::new(0),
        gate: watch::Sender::new(None),
        snapshots: AtomicUsize::new(0),
        tap: watch::Sender::new(None),
    });
    let records = SyncedRecords::of_another_process(link.clone(), Arc::new(clock.clone()), RETENTION);
    (link, clock, records)
}

/// Running and ready, with sessions `a` and `b`.
pub(crate) async fn running() -> World {
    let (link, clock, records) = still();
    link.put(vec![
        to_record(&session("a", "member")),
        to_record(&session("b", "operator")),
    ])
    .await
    .unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(records.clone().run(stopped.map(drop)));
    records.wait_ready().await;
    World {
        link,
        clock,
        records,
        _stop: stop,
    }
}

/// Waits until the records say so.
pub(crate) async fn until(records: &SyncedRecords, holds: impl Fn(&SyncedRecords) -> bool) {
    let mut changes = records.changes();
    let waiting = async {
        while !holds(records) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it never came to be");
}

impl World {
    pub(crate) async fn put<M: RecordMessage>(&self, message: &M) -> Versions {
        let reply = self.link.put(vec![to_record(message)]).await.unwrap();
        Versions {
            server_version: reply.server_version,
            latest_record_version: reply.records[0].version,
        }
    }

    pub(crate) async fn delete(&self, id: &str) {
        self.link
            .put(vec![to_tombstone(&session(id, ""), Timestamp::UNIX_EPOCH)])
            .await
            .unwrap();
    }
}
