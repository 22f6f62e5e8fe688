//! The databroker as its clients see it: one trait, with an in-process and (later) a remote client.

use std::pin::Pin;

use futures_util::Stream;
use futures_util::future::BoxFuture;

pub use crate::pb::databroker::{Record, Versions};

/// Why a databroker call failed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No live record with that type and id.
    #[error("record not found")]
    NotFound,
    /// The database was replaced or cleared, or the position asked for is no longer in the change log:
    /// the client must start over with [`Databroker::sync_latest`].
    #[error("the change log no longer holds that position; sync from the latest records again")]
    Resync,
    /// The request makes no sense, with what is wrong about it.
    #[error("invalid databroker request: {0}")]
    Invalid(String),
    /// The store cannot be reached or failed; worth another try.
    #[error("databroker unavailable: {0}")]
    Unavailable(String),
}

/// A stream of databroker messages.
pub type RecordStream<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

/// One message of [`Databroker::sync_latest`].
#[derive(Debug, Clone, PartialEq)]
pub enum Latest {
    /// A live record.
    Record(Record),
    /// Sent once, after the last record: where to go on with [`Databroker::sync`].
    Versions(Versions),
}

/// What [`Databroker::put`] wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct PutReply {
    /// Identity of the database; changes when it is cleared or replaced.
    pub server_version: u64,
    /// The records as stored, with their new versions.
    pub records: Vec<Record>,
}

/// One page of [`Databroker::list`].
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Live records, ordered by id.
    pub records: Vec<Record>,
    /// How many live records of the type there are.
    pub total: u64,
    /// Where the database stood.
    pub versions: Versions,
}

/// Keeps records and tells of their changes. Versions grow by one with each record written, over all
/// types; the server version names the database.
pub trait Databroker: Send + Sync + 'static {
    /// Where the database stands.
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>>;

    /// One live record. Errors: [`Error::NotFound`], also for a tombstone.
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>>;

    /// Live records of a type, ordered by id.
    fn list<'a>(
        &'a self,
        record_type: &'a str,
        offset: u64,
        limit: u64,
    ) -> BoxFuture<'a, Result<Page, Error>>;

    /// Writes records, all or none. A record with `deleted_at` set becomes a tombstone. `version` and
    /// `modified_at` are assigned by the store. The reply comes after the records are durable.
    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>>;

    /// Writes `record` only if the live record still has the version given in `record.version`, and returns
    /// it as stored; `None` when it was changed or deleted since. For whoever reads, works for a while and
    /// writes back: a record deleted meanwhile does not come back to life.
    ///
    /// A databroker that cannot do this answers [`Error::Unavailable`].
    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        drop(record);
        Box::pin(std::future::ready(Err(Error::Unavailable(
            "conditional writes are not supported".into(),
        ))))
    }

    /// All live records of a type (every type when empty), then the versions to go on from.
    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>>;

    /// Every change after `from`, tombstones included, in order of version, then new ones as they come,
    /// without end. Errors with [`Error::Resync`] when `from` is unknown or too old.
    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>>;

    /// Removes every record and gives the database a new server version, which it returns.
    fn clear(&self) -> BoxFuture<'_, Result<u64, Error>>;
}
