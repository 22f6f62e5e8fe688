//! The databroker of the moment: the store of this process, nobody for a moment, or the process that took over.
//!
//! Everyone in this process holds the switch, so that the store behind it can be closed and opened under them.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, PutReply, Record, RecordStream, Versions,
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
    pomerium_api::forward_databroker!(pass);
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
