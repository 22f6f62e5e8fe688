//! What a place to keep records must offer. The server does the rest.

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Page, PutReply, Record, Versions};
use tokio::sync::watch;

/// Live records in order of type and id, read from one moment in time.
pub type Records = Box<dyn Iterator<Item = Result<Record, Error>> + Send>;

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
    /// Everything goes.
    Clear,
    /// The change log up to and without the first entry not older than this.
    Trim(Timestamp),
}

/// What became of a [`Write`].
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Of [`Write::Put`]: the records with their versions.
    Put(PutReply),
    /// Of [`Write::Replace`]: the record as stored, if the live one was as expected.
    Replaced(Option<Record>),
    /// Of [`Write::Clear`]: the new server version.
    Cleared(u64),
    /// Of [`Write::Trim`]: how many entries went.
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
    fn counters(&self) -> Result<Counters, Error>;

    /// The live record, if there is one.
    fn get(&self, record_type: &str, id: &str) -> Result<Option<Record>, Error>;

    /// One page of live records, ordered by (type and) id; an empty type means every type.
    fn list(&self, record_type: &str, offset: u64, limit: u64) -> Result<Page, Error>;

    /// All live records (of every type, if it is empty) as of the versions returned with them.
    fn latest(&self, record_type: &str) -> Result<(Versions, Records), Error>;

    /// Changes after `from`, at most `limit` entries looked at.
    /// Errors with [`Error::Resync`] as [`Counters::check`] says.
    fn changes(&self, record_type: &str, from: Versions, limit: usize) -> Result<Changes, Error>;

    /// Writes; done when it is as durable as the store gets.
    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>>;

    /// Changes whenever something was written.
    fn watch(&self) -> watch::Receiver<()>;
}
