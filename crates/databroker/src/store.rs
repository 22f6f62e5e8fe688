//! What a place to keep records must offer. The server does the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use pomerium_api::databroker::{
    Cleared, Error, LeaseRequest, Options, Page, PutReply, Query, Record, RecordKey, RecordStream,
    ServerInfo, Service, Versions,
};
use tokio::sync::watch;

/// Live records in order of type and id.
pub type Records = RecordStream<Record>;

/// Where a store stands. A position in the change log is good when it is neither before `trimmed` nor
/// after `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Identity of the database: random, never 0, new after each clear.
    pub server_version: u64,
    /// The last version given out; 0 when nothing was written yet.
    pub latest: u64,
    /// The last version taken out of the change log; 0 when it is whole.
    pub trimmed: u64,
    /// Whose records these are.
    pub standing: Standing,
    /// How often a copy of these records has taken its leader's place.
    pub term: u64,
}

/// Whose records a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its own.
    Own,
    /// Those of another databroker, not all of them yet.
    Incomplete,
    /// Those of another databroker, as they were at some moment, with its versions.
    Copy,
}

/// Bits of a mark that say the standing; the term is above them.
const STANDING_BITS: u32 = 2;

impl Standing {
    fn number(self) -> u64 {
        match self {
            Self::Own => 0,
            Self::Incomplete => 1,
            Self::Copy => 2,
        }
    }

    /// What is not known is not trusted.
    fn of_number(number: u64) -> Self {
        match number {
            0 => Self::Own,
            2 => Self::Copy,
            _ => Self::Incomplete,
        }
    }
}

impl Counters {
    /// Those of a new, empty database.
    pub fn fresh() -> Self {
        let server_version = loop {
            let candidate = u64::from_be_bytes(pomerium_crypto::random::bytes());
            if candidate != 0 {
                break candidate;
            }
        };
        Self {
            server_version,
            latest: 0,
            trimmed: 0,
            standing: Standing::Own,
            term: 0,
        }
    }

    /// Standing and term as stores keep them: one small number, so that one that is promoted for the first time looks
    /// unfinished to versions of this program that know no terms.
    pub(crate) fn mark(&self) -> u64 {
        self.standing.number() | (self.term << STANDING_BITS)
    }

    /// And back.
    pub(crate) fn of_mark(mark: u64) -> (Standing, u64) {
        let standing = Standing::of_number(mark & ((1 << STANDING_BITS) - 1));
        (standing, mark >> STANDING_BITS)
    }

    /// As clients see it.
    pub fn versions(&self) -> Versions {
        Versions {
            server_version: self.server_version,
            latest_record_version: self.latest,
        }
    }

    /// As clients see it, with how far back the log reaches.
    pub fn info(&self) -> ServerInfo {
        ServerInfo {
            server_version: self.server_version,
            earliest: match self.trimmed {
                0 => 0,
                trimmed => trimmed + 1,
            },
            latest: self.latest,
            term: self.term,
        }
    }

    /// Errors with [`Error::Resync`] unless the change log can be read on from `from`.
    pub fn check(&self, from: Versions) -> Result<(), Error> {
        let held = (self.trimmed..=self.latest).contains(&from.latest_record_version);
        if from.server_version == self.server_version && held {
            Ok(())
        } else {
            Err(Error::Resync)
        }
    }
}

/// Something to be written; each is all or nothing.
#[derive(Debug)]
pub enum Write {
    /// Records in order; those with `deleted_at` delete.
    Put(Vec<Record>),
    /// A record in place of the live one of that same version; of version 0, where there is none.
    Replace(Record),
    /// Fields of live records; those that are not there are left out.
    Patch {
        /// What holds the new values.
        records: Vec<Record>,
        /// Dotted names of the fields.
        mask: Vec<String>,
    },
    /// How records of a type are kept; options without a value forget it.
    SetOptions {
        /// Record type.
        record_type: String,
        /// How.
        options: Options,
    },
    /// Acquires or renews a lease.
    Lease(LeaseRequest),
    /// Gives a lease back.
    ReleaseLease {
        /// Name.
        name: String,
        /// Who gives it back.
        id: String,
    },
    /// Services that are there, for so long.
    Report {
        /// They.
        services: Vec<Service>,
        /// How long they are known.
        ttl: Duration,
    },
    /// Everything goes but leases and services.
    Clear,
    /// The change log up to and without the first entry not older than this.
    Trim(Timestamp),
    /// Records whose time, by the options of their type, is over, or that it has no room for: so many of them that one write
    /// may hold; the next goes on.
    Expire,
    /// A step of copying another databroker.
    Copy(Copy),
    /// Makes a whole copy a database of its own, with a new server version.
    Promote,
}

/// Type and id.
pub type Key = RecordKey;

/// The steps of copying another databroker: [`Self::Begin`], parts, [`Self::End`], then changes as they come.
/// Versions and times are those of the other.
#[derive(Debug)]
pub enum Copy {
    /// What is here goes, bit by bit; until the end it is a mixture.
    Begin,
    /// Live records, in order of type and id.
    Part {
        /// Where the part before ended.
        after: Option<Key>,
        /// All there are from there up to the last of these.
        records: Vec<Record>,
        /// There are none behind them.
        last: bool,
    },
    /// How records of types are kept; `None` is not said.
    Options(Vec<(String, Option<Options>)>),
    /// The parts are the records as of this position, or later.
    End {
        /// The position.
        versions: Versions,
        /// The term of the other.
        term: u64,
    },
    /// Changes in order. Those already here are passed over.
    Changes(Vec<Record>),
}

/// What became of a [`Write`].
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Of [`Write::Put`]: the records with their versions.
    Put(PutReply),
    /// Of [`Write::Replace`]: the record as stored, if the live one was as expected.
    Replaced(Option<Record>),
    /// Of [`Write::Clear`] and [`Write::Promote`].
    Cleared(Cleared),
    /// Of [`Write::SetOptions`], [`Write::ReleaseLease`], [`Write::Report`] and [`Write::Copy`].
    Done,
    /// Of [`Write::Lease`]: its id, unless somebody else holds it.
    Leased(Option<String>),
    /// Of [`Write::Trim`] and [`Write::Expire`]: how many entries or records went.
    Trimmed(u64),
}

/// A service that was reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registered {
    /// Number of its kind (`registry.ServiceKind`).
    pub kind: i32,
    /// Where it is.
    pub endpoint: String,
    /// Until when it is known.
    pub expires: Timestamp,
}

/// Part of the change log.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// Changes of the type asked for, by version.
    pub records: Vec<Record>,
    /// Everything up to here has been looked at: where to go on.
    pub seen: u64,
}

/// What is in a store, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Live records, by type.
    pub records: BTreeMap<String, u64>,
    /// Entries of the change log.
    pub changes: u64,
    /// What cannot be read, with why.
    pub unreadable: Vec<String>,
}

/// A place to keep records. Reads may block for a moment on a disk, never on a writer.
pub trait Store: Send + Sync + 'static {
    /// Where it stands.
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>>;

    /// The live record, if there is one. Errors with [`Error::Damaged`] when it is not what was written.
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>>;

    /// Live records that match, ordered by type and id.
    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>>;

    /// Whether queries find by fields that nobody declared.
    fn finds_any_field(&self) -> bool {
        false
    }

    /// Types that have live records, sorted.
    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>>;

    /// How records of a type are kept, if that was ever said.
    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>>;

    /// How records are kept of each type for which that was said.
    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>>;

    /// Services whose time is not over at `now`, by kind and address.
    fn services(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Registered>, Error>>;

    /// Changes whenever services may have.
    fn watch_services(&self) -> watch::Receiver<()>;

    /// All live records (of every type, if it is empty). What was written after the versions returned with them may or
    /// may not be among them. One that cannot be read does not keep the others from being read: it is left out, and
    /// [`Self::unreadable`] from then on.
    fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>>;

    /// Changes after `from`, at most `limit` entries looked at; fewer when they are large.
    /// Errors with [`Error::Resync`] as [`Counters::check`] says, and with [`Error::Damaged`] when one cannot be read: a
    /// reader that misses a change is wrong for good.
    fn changes<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Changes, Error>>;

    /// Writes; done when it is as durable as the store gets.
    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>>;

    /// Changes whenever something was written.
    fn watch(&self) -> watch::Receiver<()>;

    /// Live records that were found not to be readable, as far as that is still so and they are not too many.
    fn unreadable(&self) -> BoxFuture<'_, Vec<Key>> {
        std::future::ready(Vec::new()).boxed()
    }

    /// Reads everything, and says what is there.
    fn inspect(&self) -> BoxFuture<'_, Result<Inventory, Error>>;
}

impl<S: Store> Store for Arc<S> {
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>> {
        (**self).counters()
    }
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        (**self).get(record_type, id)
    }
    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>> {
        (**self).select(query)
    }
    fn finds_any_field(&self) -> bool {
        (**self).finds_any_field()
    }
    fn services(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Registered>, Error>> {
        (**self).services(now)
    }

    fn watch_services(&self) -> watch::Receiver<()> {
        (**self).watch_services()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        (**self).types()
    }
    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        (**self).options(record_type)
    }
    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        (**self).all_options()
    }
    fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>> {
        (**self).latest(record_type)
    }
    fn changes<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Changes, Error>> {
        (**self).changes(record_type, from, limit)
    }
    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
        (**self).write(write, now)
    }
    fn watch(&self) -> watch::Receiver<()> {
        (**self).watch()
    }
    fn unreadable(&self) -> BoxFuture<'_, Vec<Key>> {
        (**self).unreadable()
    }
    fn inspect(&self) -> BoxFuture<'_, Result<Inventory, Error>> {
        (**self).inspect()
    }
}

/// Whether `store` can be served: a restore into it was not interrupted, and it holds nobody else's records.
///
/// # Errors
/// With what to do.
pub async fn ready(store: &impl Store) -> Result<(), Error> {
    match store.counters().await?.standing {
        Standing::Own => Ok(()),
        Standing::Copy => Err(Error::Invalid(
            "the store holds a copy of another databroker's records; `pomerium databroker promote` makes it one of its own"
                .into(),
        )),
        Standing::Incomplete => Err(Error::Invalid(
            "the records in the store are not complete: a restore or a copy of another databroker was interrupted; restore \
             again, or let it follow its leader"
                .into(),
        )),
    }
}

/// How long a record is kept after its last change; `None` is for ever.
pub(crate) fn ttl(options: &Options) -> Option<Duration> {
    let ttl = options.ttl.as_ref()?;
    Duration::try_from(*ttl).ok().filter(|ttl| !ttl.is_zero())
}

/// Whether options say nothing.
pub(crate) fn says_nothing(options: &Options) -> bool {
    options.capacity.is_none() && options.indexable_fields.is_empty() && options.ttl.is_none()
}
