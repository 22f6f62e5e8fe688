//! The databroker itself: checks requests, gives times to the store, starts streams, trims the change log.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, LeaseRequest, Options, Page, PutReply, Query, Record, RecordKey,
    RecordStream, ServerInfo, Service, Versions,
};
use tokio::sync::watch;

use crate::apply::MOST_EXPIRED;
use crate::limits;
use crate::lookup::Lookup;
use crate::store::{Store, Write, Written};
use crate::{query, registry, stream};

/// How long the change log reaches back. A client away for longer reads everything anew.
pub const RETENTION: Duration = Duration::from_secs(60 * 60);
/// How often old changes and records are looked for.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// A databroker over a store.
pub struct Server<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    closed: watch::Sender<bool>,
    lookup: Lookup,
}

impl<S: Store> Server<S> {
    /// A databroker over `store`, without the background task; see [`Self::start`].
    pub fn new(store: S, clock: Arc<dyn Clock>) -> Self {
        Self {
            store: Arc::new(store),
            clock,
            closed: watch::Sender::new(false),
            lookup: Lookup::default(),
        }
    }

    /// A databroker that also cleans up each minute, on the runtime this is called in, until it
    /// is closed or dropped.
    pub fn start(store: S, clock: Arc<dyn Clock>) -> Arc<Self> {
        let server = Arc::new(Self::new(store, clock));
        server.keep_clean();
        server
    }

    /// Cleans up each minute, as [`Self::start`] says.
    pub(crate) fn keep_clean(self: &Arc<Self>) {
        tokio::spawn(trim_regularly(Arc::downgrade(self), self.closed.subscribe()));
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

    /// Deletes records whose time to live is over or that their type has no room for, and trims the change log; returns how many
    /// entries went.
    pub async fn clean(&self) -> Result<u64, Error> {
        // The change log must not grow because of a record that cannot go.
        let trimmed = self.trim().await?;
        let mut expired = 0;
        loop {
            let Written::Trimmed(count) = self.write(Write::Expire).await? else {
                return Err(unexpected());
            };
            expired += count;
            if count < MOST_EXPIRED {
                return Ok(expired + trimmed);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &S {
        &self.store
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

    /// What a write of records answered.
    async fn write_records(&self, write: Write) -> Result<PutReply, Error> {
        match self.write(write).await? {
            Written::Put(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }
}

impl<S: Store> Databroker for Server<S> {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async { Ok(self.open()?.counters().await?.versions()) }.boxed()
    }

    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        async { Ok(self.open()?.counters().await?.info()) }.boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        async move {
            limits::key(record_type, id)?;
            self.open()?.get(record_type, id).await?.ok_or(Error::NotFound)
        }
        .boxed()
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Page, Error>> {
        async move {
            limits::kind(&query.record_type)?;
            let store = self.open()?;
            match self.lookup.candidates(store, &query).await? {
                Some(candidates) => query::among(store, &query, candidates).await,
                None => store.select(&query).await,
            }
        }
        .boxed()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        async { self.open()?.types().await }.boxed()
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        async move {
            named(record_type)?;
            self.open()?.options(record_type).await
        }
        .boxed()
    }

    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        async { self.open()?.all_options().await }.boxed()
    }

    fn unreadable(&self) -> BoxFuture<'_, Result<Vec<RecordKey>, Error>> {
        async { Ok(self.open()?.unreadable().await) }.boxed()
    }

    fn set_options(&self, record_type: String, options: Options) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            named(&record_type)?;
            match self.write(Write::SetOptions { record_type, options }).await? {
                Written::Done => Ok(()),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
        async move {
            lease_named(&request.name, request.id.as_deref())?;
            match self.write(Write::Lease(request)).await? {
                Written::Leased(id) => Ok(id),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn release_lease(&self, name: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            lease_named(&name, Some(&id))?;
            match self.write(Write::ReleaseLease { name, id }).await? {
                Written::Done => Ok(()),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn report(&self, services: Vec<Service>) -> BoxFuture<'_, Result<Duration, Error>> {
        async move {
            registry::check(&services)?;
            let ttl = registry::TTL;
            match self.write(Write::Report { services, ttl }).await? {
                Written::Done => Ok(registry::AGAIN),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<Vec<Service>, Error>> {
        async move {
            let registered = self.open()?.services(self.clock.now()).await?;
            Ok(registry::of_kinds(&registered, &kinds))
        }
        .boxed()
    }

    fn watch_services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<RecordStream<Vec<Service>>, Error>> {
        async move {
            self.open()?;
            let clock = Arc::clone(&self.clock);
            Ok(registry::watch(
                &self.store,
                clock,
                self.closed.subscribe(),
                kinds,
            ))
        }
        .boxed()
    }

    fn patch(&self, records: Vec<Record>, mask: Vec<String>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async move {
            records.iter().try_for_each(limits::record)?;
            self.write_records(Write::Patch { records, mask }).await
        }
        .boxed()
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async move {
            records.iter().try_for_each(limits::record)?;
            self.write_records(Write::Put(records)).await
        }
        .boxed()
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        async move {
            limits::record(&record)?;
            match self.write(Write::Replace(record)).await? {
                Written::Replaced(record) => Ok(record),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        async move {
            limits::kind(record_type)?;
            let (versions, records) = self.open()?.latest(record_type).await?;
            Ok(stream::latest(versions, records))
        }
        .boxed()
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        async move {
            limits::kind(record_type)?;
            self.open()?;
            stream::changes(&self.store, self.closed.subscribe(), record_type, from, true).await
        }
        .boxed()
    }

    fn sync_until_now<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        async move {
            limits::kind(record_type)?;
            self.open()?;
            stream::changes(&self.store, self.closed.subscribe(), record_type, from, false).await
        }
        .boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        async move {
            match self.write(Write::Clear).await? {
                Written::Cleared(versions) => Ok(versions),
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
        match server.clean().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "cleaned up: old changes and records whose time is over"),
            Err(error) => tracing::warn!(%error, "cannot clean up; will try again"),
        }
    }
}

fn named(record_type: &str) -> Result<(), Error> {
    if record_type.is_empty() {
        return Err(Error::Invalid("options need a record type".into()));
    }
    limits::kind(record_type)
}

fn lease_named(name: &str, id: Option<&str>) -> Result<(), Error> {
    limits::name("name of the lease", name)?;
    id.map_or(Ok(()), |id| limits::name("id of the lease", id))
}

fn unexpected() -> Error {
    Error::Unavailable("the store answered another question than it was asked".into())
}
