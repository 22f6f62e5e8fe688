//! The databroker of the moment: the store of this process, nobody for a moment, or the process that took over.
//!
//! Everyone in this process holds the switch, so that the store behind it can be closed and opened under them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, LeaseRequest, Options, Page, PutReply, Query, Record, RecordStream,
    ServerInfo, Service, Versions,
};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// A databroker, and how its streams are ended.
pub(super) struct Source {
    pub(super) broker: Arc<dyn Databroker>,
    pub(super) close: Box<dyn Fn() + Send + Sync>,
}

/// Passes every call to the source of the moment. A call holds it until it has its answer.
pub(super) struct Switch(Arc<RwLock<Source>>);

impl Switch {
    pub(super) fn new(source: Source) -> Self {
        Self(Arc::new(RwLock::new(source)))
    }

    /// Ends every stream of the source, if nothing is under way with it.
    pub(super) fn close(&self) {
        if let Ok(source) = self.0.try_read() {
            (source.close)();
        }
    }

    /// Waits until nothing is under way, closes the source and puts nothing in its place. Calls wait from here
    /// on until the guard is dropped.
    pub(super) async fn clear(&self) -> OwnedRwLockWriteGuard<Source> {
        let mut place = Arc::clone(&self.0).write_owned().await;
        (place.close)();
        *place = Source {
            broker: Arc::new(Nobody),
            close: Box::new(|| ()),
        };
        place
    }
}

macro_rules! pass {
    ($self:ident, $($call:tt)+) => {
        async move { $self.0.read().await.broker.$($call)+.await }.boxed()
    };
}

impl Databroker for Switch {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        pass!(self, versions())
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        pass!(self, get(record_type, id))
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        pass!(self, put(records))
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        pass!(self, replace(record))
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        pass!(self, sync_latest(record_type))
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        pass!(self, sync(record_type, from))
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        pass!(self, clear())
    }

    fn sync_until_now<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        pass!(self, sync_until_now(record_type, from))
    }

    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        pass!(self, info())
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Page, Error>> {
        pass!(self, query(query))
    }

    fn patch(&self, records: Vec<Record>, mask: Vec<String>) -> BoxFuture<'_, Result<PutReply, Error>> {
        pass!(self, patch(records, mask))
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        pass!(self, types())
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        pass!(self, options(record_type))
    }

    fn set_options(&self, record_type: String, options: Options) -> BoxFuture<'_, Result<(), Error>> {
        pass!(self, set_options(record_type, options))
    }

    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
        pass!(self, lease(request))
    }

    fn release_lease(&self, name: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
        pass!(self, release_lease(name, id))
    }

    fn report(&self, services: Vec<Service>) -> BoxFuture<'_, Result<Duration, Error>> {
        pass!(self, report(services))
    }

    fn services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<Vec<Service>, Error>> {
        pass!(self, services(kinds))
    }

    fn watch_services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<RecordStream<Vec<Service>>, Error>> {
        pass!(self, watch_services(kinds))
    }
}

/// Stands in when the store could not be opened again.
struct Nobody;

impl Nobody {
    fn answer<T: Send + 'static>() -> BoxFuture<'static, Result<T, Error>> {
        std::future::ready(Err(Error::Unavailable("the store is closed".into()))).boxed()
    }
}

impl Databroker for Nobody {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        Self::answer()
    }
    fn get<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        Self::answer()
    }
    fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        Self::answer()
    }
    fn sync_latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        Self::answer()
    }
    fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        Self::answer()
    }
    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        Self::answer()
    }
}
