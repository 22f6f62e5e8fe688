//! The databroker itself: checks requests, gives times to the store, starts streams, trims the change log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Databroker, Error, Latest, Page, PutReply, Record, RecordStream, Versions};
use prost::Message;
use tokio::sync::watch;

use crate::store::{Store, Write, Written};
use crate::stream;

/// How long the change log reaches back. A client away for longer reads everything anew.
pub const RETENTION: Duration = Duration::from_secs(60 * 60);
/// How often the change log is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// The largest record: what one gRPC message can carry.
const MAX_RECORD: usize = 4 * 1024 * 1024;

/// A databroker over a store.
pub struct Server<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    closed: watch::Sender<bool>,
}

impl<S: Store> Server<S> {
    /// A databroker over `store`, without the background task; see [`Self::start`].
    pub fn new(store: S, clock: Arc<dyn Clock>) -> Self {
        Self {
            store: Arc::new(store),
            clock,
            closed: watch::Sender::new(false),
        }
    }

    /// A databroker that also trims its change log each minute, on the runtime this is called in, until it
    /// is closed or dropped.
    pub fn start(store: S, clock: Arc<dyn Clock>) -> Arc<Self> {
        let server = Arc::new(Self::new(store, clock));
        tokio::spawn(trim_regularly(Arc::downgrade(&server), server.closed.subscribe()));
        server
    }

    /// Ends all streams with an error; later calls fail.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Takes changes older than [`RETENTION`] out of the change log; returns how many.
    pub async fn trim(&self) -> Result<u64, Error> {
        let now = self.clock.now();
        let before = now
            .checked_sub(RETENTION)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        match self.write(Write::Trim(before)).await? {
            Written::Trimmed(count) => Ok(count),
            _ => Err(unexpected()),
        }
    }

    fn open(&self) -> Result<&S, Error> {
        if *self.closed.borrow() {
            return Err(Error::Unavailable("the databroker is closed".into()));
        }
        Ok(&self.store)
    }

    async fn write(&self, write: Write) -> Result<Written, Error> {
        self.open()?.write(write, self.clock.now()).await
    }

    fn start_sync(&self, record_type: &str, from: Versions) -> Result<RecordStream<Record>, Error> {
        self.open()?;
        stream::changes(&self.store, self.closed.subscribe(), record_type, from)
    }

    fn start_latest(&self, record_type: &str) -> Result<RecordStream<Latest>, Error> {
        let (versions, records) = self.open()?.latest(record_type)?;
        Ok(stream::latest(versions, records))
    }
}

impl<S: Store> Databroker for Server<S> {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        let answer = self
            .open()
            .and_then(|store| store.counters())
            .map(|counters| counters.versions());
        ready(answer).boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        let answer = self.open().and_then(|store| store.get(record_type, id));
        ready(answer.and_then(|found| found.ok_or(Error::NotFound))).boxed()
    }

    fn list<'a>(
        &'a self,
        record_type: &'a str,
        offset: u64,
        limit: u64,
    ) -> BoxFuture<'a, Result<Page, Error>> {
        ready(
            self.open()
                .and_then(|store| store.list(record_type, offset, limit)),
        )
        .boxed()
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async move {
            records.iter().try_for_each(check)?;
            match self.write(Write::Put(records)).await? {
                Written::Put(reply) => Ok(reply),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        async move {
            check(&record)?;
            match self.write(Write::Replace(record)).await? {
                Written::Replaced(record) => Ok(record),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        ready(self.start_latest(record_type)).boxed()
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        ready(self.start_sync(record_type, from)).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<u64, Error>> {
        async move {
            match self.write(Write::Clear).await? {
                Written::Cleared(server_version) => Ok(server_version),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }
}

impl<S> Drop for Server<S> {
    fn drop(&mut self) {
        self.closed.send_replace(true);
    }
}

async fn trim_regularly<S: Store>(server: Weak<Server<S>>, mut closed: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(TRIM_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
        let Some(server) = server.upgrade() else { return };
        match server.trim().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "trimmed the change log"),
            Err(error) => tracing::warn!(%error, "cannot trim the change log; will try again"),
        }
    }
}

fn check(record: &Record) -> Result<(), Error> {
    let size = record.encoded_len();
    if size > MAX_RECORD {
        let Record { r#type, id, .. } = record;
        return Err(Error::Invalid(format!(
            "{} {id} has {size} bytes; {MAX_RECORD} are allowed",
            r#type
        )));
    }
    Ok(())
}

fn unexpected() -> Error {
    Error::Unavailable("the store answered another question than it was asked".into())
}
