//! The copy as it may be asked for by name: it answers, and takes no writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, LeaseRequest, Options, Page, PutReply, Query, Record, RecordKey,
    RecordStream, ServerInfo, Service, Versions,
};

/// A databroker that only reads.
pub(super) struct ReadOnly(pub(super) Arc<dyn Databroker>);

fn refused<T: Send + 'static>() -> BoxFuture<'static, Result<T, Error>> {
    let text = "this databroker follows another one: writes go to that one";
    std::future::ready(Err(Error::Unsupported(text.into()))).boxed()
}

impl Databroker for ReadOnly {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        self.0.versions()
    }

    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        self.0.info()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        self.0.get(record_type, id)
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Page, Error>> {
        self.0.query(query)
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        self.0.types()
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        self.0.options(record_type)
    }

    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        self.0.all_options()
    }

    fn unreadable(&self) -> BoxFuture<'_, Result<Vec<RecordKey>, Error>> {
        self.0.unreadable()
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        self.0.sync_latest(record_type)
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        self.0.sync(record_type, from)
    }

    fn sync_until_now<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        self.0.sync_until_now(record_type, from)
    }

    fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        refused()
    }

    fn replace(&self, _: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        refused()
    }

    fn patch(&self, _: Vec<Record>, _: Vec<String>) -> BoxFuture<'_, Result<PutReply, Error>> {
        refused()
    }

    fn set_options(&self, _: String, _: Options) -> BoxFuture<'_, Result<(), Error>> {
        refused()
    }

    fn lease(&self, _: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
        refused()
    }

    fn release_lease(&self, _: String, _: String) -> BoxFuture<'_, Result<(), Error>> {
        refused()
    }

    fn report(&self, _: Vec<Service>) -> BoxFuture<'_, Result<Duration, Error>> {
        refused()
    }

    fn services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<Vec<Service>, Error>> {
        self.0.services(kinds)
    }

    fn watch_services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<RecordStream<Vec<Service>>, Error>> {
        self.0.watch_services(kinds)
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        refused()
    }
}
