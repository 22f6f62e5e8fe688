//! The databroker as its clients see it: one trait, with an in-process and a remote client.
//!
//! Start at [`Databroker`]. [`Query`] is what can be asked, [`remote`] the client of a databroker in another
//! process, [`Leaser`] work that one of several processes does, [`SyncObserver`] what whoever follows it tells of itself.

mod error;
mod forward;
mod leaser;
mod query;
pub mod remote;
mod restarts;
pub mod status;
mod syncer;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;

pub use self::error::Error;
pub use self::leaser::{Leaser, Over};
pub use self::query::{Filter, Query};
pub use self::restarts::Restarts;
pub use self::syncer::{SyncCall, SyncObserver, SyncState};
pub use crate::pb::databroker::{Options, Record, Versions};
pub use crate::pb::registry::Service;

/// A stream of databroker messages.
pub type RecordStream<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

/// What a call comes to.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// The type and id of a record.
pub type RecordKey = (String, String);

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

/// One page of [`Databroker::query`].
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Live records, ordered by type and id.
    pub records: Vec<Record>,
    /// How many live records match, over all pages.
    pub total: u64,
    /// Where the database stood.
    pub versions: Versions,
}

/// Where a database stands, and how far back it can tell of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInfo {
    /// Identity of the database.
    pub server_version: u64,
    /// The first version that can still be replayed; 0 while the change log is whole.
    pub earliest: u64,
    /// The last version given out.
    pub latest: u64,
    /// How often a copy of these records has taken its leader's place: of two databases that come from one, the one
    /// of the later term counts.
    pub term: u64,
}

/// What a clear did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleared {
    /// The server version before.
    pub old: u64,
    /// The server version since.
    pub new: u64,
}

/// A call on the lease `name` for `ttl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Name.
    pub name: String,
    /// How long it is held unless it is renewed.
    pub ttl: Duration,
    /// The id given when it was acquired; `None` to acquire it.
    pub id: Option<String>,
}

/// Keeps records and tells of their changes. Versions grow by one with each record written, over all
/// types; the server version names the database.
pub trait Databroker: Send + Sync + 'static {
    /// Where the database stands.
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>>;

    /// One live record. Errors: [`Error::NotFound`], also for a tombstone.
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>>;

    /// Writes records, all or none. A record with `deleted_at` set becomes a tombstone. `version` and
    /// `modified_at` are assigned by the store. The reply comes after the records are durable.
    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>>;

    /// Writes `record` only if the live record still has the version given in `record.version`, and returns
    /// it as stored; `None` when it was changed or deleted since. For whoever reads, works for a while and
    /// writes back: a record deleted meanwhile does not come back to life. Version 0 stands for no live record: of
    /// several who create one, one succeeds.
    ///
    /// A databroker that cannot do this answers [`Error::Unsupported`].
    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        drop(record);
        unsupported("conditional writes")
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

    /// As [`Databroker::sync`], but the stream ends once everything written so far has been sent.
    fn sync_until_now<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        let _ = (record_type, from);
        unsupported("streams that end")
    }

    /// Removes every record and gives the database a new server version. Leases stay.
    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>>;

    /// Where the database stands, and how far back it can tell.
    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        unsupported("server info")
    }

    /// Live records that match.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Page, Error>> {
        drop(query);
        unsupported("queries")
    }

    /// Overwrites the fields named in `mask` (dotted names) of the live records with those of `records`, each as one
    /// step that no other write comes between. Records that are not there are left out of the reply.
    ///
    /// Errors with [`Error::Invalid`] when a name of the mask is none of the message, or the types differ; then nothing
    /// was written.
    fn patch(&self, records: Vec<Record>, mask: Vec<String>) -> BoxFuture<'_, Result<PutReply, Error>> {
        drop((records, mask));
        unsupported("patches")
    }

    /// The types that have live records, sorted.
    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        unsupported("the list of types")
    }

    /// How records of a type are kept; `None` when nothing was set.
    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        let _ = record_type;
        unsupported("options")
    }

    /// What was set for each type, by type, whether it has live records or not.
    ///
    /// A databroker of a former version answers [`Error::Unsupported`].
    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        unsupported("options")
    }

    /// Live records that are there and cannot be read, as far as that was noticed: whoever has just read everything knows by
    /// this what was left out. Not all of them, if they are very many.
    ///
    /// A databroker of a former version answers [`Error::Unsupported`].
    fn unreadable(&self) -> BoxFuture<'_, Result<Vec<RecordKey>, Error>> {
        unsupported("the list of damaged records")
    }

    /// Says how records of a type are kept; options without a value forget what was set. Nothing is evicted
    /// before the next write or the next clean-up.
    fn set_options(&self, record_type: String, options: Options) -> BoxFuture<'_, Result<(), Error>> {
        drop((record_type, options));
        unsupported("options")
    }

    /// Acquires a lease, or renews it when the request names an id. Returns its id; `None` while somebody else holds it.
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
        drop(request);
        unsupported("leases")
    }

    /// Gives a lease back; without effect when `id` does not hold it.
    fn release_lease(&self, name: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
        drop((name, id));
        unsupported("leases")
    }

    /// Announces services. They are known until a time after the last announcement has passed; returns when to call
    /// again, which is well before.
    fn report(&self, services: Vec<Service>) -> BoxFuture<'_, Result<Duration, Error>> {
        drop(services);
        unsupported("the registry of services")
    }

    /// The services that are known, of these kinds (numbers of `registry.ServiceKind`; of every kind, if there are
    /// none), by kind and address.
    fn services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<Vec<Service>, Error>> {
        drop(kinds);
        unsupported("the registry of services")
    }

    /// [`Databroker::services`] at once, and whole again whenever they change, without end.
    fn watch_services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<RecordStream<Vec<Service>>, Error>> {
        drop(kinds);
        unsupported("the registry of services")
    }
}

/// What databrokers that exist for a part of the calls answer to the others.
fn unsupported<T: Send + 'static>(what: &str) -> BoxFuture<'static, Result<T, Error>> {
    Box::pin(std::future::ready(Err(Error::Unsupported(what.into()))))
}
