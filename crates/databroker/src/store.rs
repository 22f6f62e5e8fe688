//! What a place to keep records must offer. The server does the rest.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use pomerium_api::databroker::{
    Cleared, Error, LeaseRequest, Options, Page, PutReply, Query, Record, RecordStream, ServerInfo, Versions,
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
        }
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
    /// A record in place of the live one of that same version.
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
    /// Everything goes.
    Clear,
    /// The change log up to and without the first entry not older than this.
    Trim(Timestamp),
    /// Records whose time, by the options of their type, is over.
    Expire,
}

/// What became of a [`Write`].
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Of [`Write::Put`]: the records with their versions.
    Put(PutReply),
    /// Of [`Write::Replace`]: the record as stored, if the live one was as expected.
    Replaced(Option<Record>),
    /// Of [`Write::Clear`].
    Cleared(Cleared),
    /// Of [`Write::SetOptions`] and [`Write::ReleaseLease`].
    Done,
    /// Of [`Write::Lease`]: its id, unless somebody else holds it.
    Leased(Option<String>),
    /// Of [`Write::Trim`] and [`Write::Expire`]: how many entries or records went.
    Trimmed(u64),
}

/// Part of the change log.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// Changes of the type asked for, by version.
    pub records: Vec<Record>,
    /// Everything up to here has been looked at: where to go on.
    pub seen: u64,
}

/// A place to keep records. Reads may block for a moment on a disk, never on a writer.
pub trait Store: Send + Sync + 'static {
    /// Where it stands.
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>>;

    /// The live record, if there is one.
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>>;

    /// Live records that match, ordered by type and id.
    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>>;

    /// Types that have live records, sorted.
    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>>;

    /// How records of a type are kept, if that was ever said.
    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>>;

    /// All live records (of every type, if it is empty). What was written after the versions returned with them may or
    /// may not be among them.
    fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>>;

    /// Changes after `from`, at most `limit` entries looked at.
    /// Errors with [`Error::Resync`] as [`Counters::check`] says.
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
