//! Sessions, users and service accounts, decoded and kept in step with the databroker; configuration records
//! beside them, as they are.
//!
//! Reads take no lock and do no I/O: they are on the path of each request. [`SyncedRecords::run`] is the
//! only writer besides [`SyncedRecords::fetch_session`], which covers the moment between the write of a
//! session and its arrival here. What the records mean (expiry, rights) is not judged here.

mod documents;
mod flight;
mod table;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config_records;
use crate::databroker::{Databroker, Error, Latest, Record, RecordStream, Versions};
use crate::pb;
use crate::records::RecordMessage;
use documents::Documents;
use flight::Flights;
use table::Table;
pub use table::{Entry, ServiceAccountEntry, SessionEntry, UserEntry};

/// First pause after a failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts to reach the databroker.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Decoded records, kept in step with the databroker.
pub struct SyncedRecords {
    broker: Arc<dyn Databroker>,
    sessions: Table<SessionEntry>,
    users: Table<UserEntry>,
    accounts: Table<ServiceAccountEntry>,
    documents: Documents,
    /// How far the tables have followed the change log; its lock makes writers take turns, so that a
    /// fetched record can never come back after its tombstone.
    position: Mutex<Option<Versions>>,
    ready: watch::Sender<bool>,
    generation: watch::Sender<u64>,
    flights: Flights,
}

impl SyncedRecords {
    /// Empty tables over `broker`; they fill once [`Self::run`] is polled.
    pub fn new(broker: Arc<dyn Databroker>) -> Arc<Self> {
        Arc::new(Self {
            broker,
            sessions: Table::new(),
            users: Table::new(),
            accounts: Table::new(),
            documents: Documents::default(),
            position: Mutex::new(None),
            ready: watch::Sender::new(false),
            generation: watch::Sender::new(0),
            flights: Flights::default(),
        })
    }

    /// Follows the databroker until `cancel` completes: the latest records first, then each change. Starts
    /// over on [`Error::Resync`]; on other errors goes on from where it stood, after a pause.
    pub async fn run(self: Arc<Self>, cancel: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = cancel => {}
            () = self.follow_forever() => {}
        }
    }

    /// Whether the first complete read has been done.
    pub fn ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until [`Self::ready`].
    pub async fn wait_ready(&self) {
        // The sender lives in `self`, so this cannot fail while it is awaited.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// The session with this id, as last seen.
    pub fn session(&self, id: &str) -> Option<Arc<SessionEntry>> {
        self.sessions.get(id)
    }

    /// The user with this id, as last seen.
    pub fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        self.users.get(id)
    }

    /// The service account with this id, as last seen.
    pub fn service_account(&self, id: &str) -> Option<Arc<ServiceAccountEntry>> {
        self.accounts.get(id)
    }

    /// The configuration records, by type and id.
    pub fn config_records(&self) -> Vec<Arc<Record>> {
        self.documents.all()
    }

    /// Wakes whenever a configuration record comes, changes or goes.
    pub fn config_changes(&self) -> watch::Receiver<u64> {
        self.documents.changes()
    }

    /// How far the change log has been followed; `None` before the first complete read.
    pub fn position(&self) -> Option<Versions> {
        *self.position.lock()
    }

    /// A number that grows with each change taken over.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Wakes whenever [`Self::generation`] grows; for those that must act on a revoked session.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The session with this id, no older than `min` as far as the databroker knows.
    ///
    /// Answers from memory when it can: also "there is none" once the change log has been followed past
    /// `min`. Otherwise asks the databroker; callers that ask for one id at the same time share the
    /// question. Errors are those of the databroker, without [`Error::NotFound`].
    pub async fn fetch_session(
        &self,
        id: &str,
        min: Option<Versions>,
    ) -> Result<Option<Arc<SessionEntry>>, Error> {
        if let Some(known) = self.known_session(id, min) {
            return Ok(known);
        }
        let (joined, answer) = self.flights.ask(&self.broker, id).await;
        let found = self.accept_session(id, answer?);
        let stale = !found.as_ref().is_some_and(|entry| reaches(entry.at(), min));
        if !(joined && stale) {
            return Ok(found);
        }
        // The question shared may have been asked before `min` was written.
        let (_, answer) = self.flights.ask(&self.broker, id).await;
        Ok(self.accept_session(id, answer?))
    }

    /// Takes over one record that was just written or read, without waiting for it to come round by the
    /// stream. Types that are not kept here are ignored.
    pub fn apply(&self, server_version: u64, record: &Record) {
        let position = self.position.lock();
        if position.is_some_and(|at| {
            at.server_version != server_version || record.version <= at.latest_record_version
        }) {
            return;
        }
        self.apply_to_table(server_version, record);
        drop(position);
        self.changed();
    }

    /// What memory alone can answer: `Some(None)` is a certain "there is none".
    fn known_session(&self, id: &str, min: Option<Versions>) -> Option<Option<Arc<SessionEntry>>> {
        // The position first: a record that arrives in between is then only seen as "ask".
        let position = self.position();
        match self.sessions.get(id) {
            Some(entry) if reaches(entry.at(), min) => Some(Some(entry)),
            Some(_) => None,
            None => {
                let certain = min.is_some() && position.is_some_and(|at| reaches(at, min));
                certain.then_some(None)
            }
        }
    }

    /// Puts the databroker's answer in its place, unless the change log has already been followed past it:
    /// then the table knows better.
    fn accept_session(&self, id: &str, answer: Option<(u64, Record)>) -> Option<Arc<SessionEntry>> {
        let (server_version, record) = answer?;
        let at = Versions {
            server_version,
            latest_record_version: record.version,
        };
        let position = self.position.lock();
        match *position {
            Some(known) if known.server_version != server_version => return detached(at, &record),
            Some(known) if at.latest_record_version <= known.latest_record_version => {}
            _ => self.apply_to_table(server_version, &record),
        }
        drop(position);
        self.changed();
        self.sessions.get(id)
    }

    async fn follow_forever(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = self.follow(&mut pause).await;
            let restart = error == Error::Resync;
            if restart {
                tracing::info!("the databroker was cleared or replaced; reading all records again");
                *self.position.lock() = None;
            } else {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "databroker sync interrupted");
            }
            // Until the records are read again, those of a replaced database are still believed: at once,
            // unless this goes round in circles.
            if !(restart && pause == FIRST_PAUSE) {
                tokio::time::sleep(pause).await;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection: catches up if needed, then follows until something fails.
    async fn follow(&self, pause: &mut Duration) -> Error {
        let position = self.position();
        let started = match position {
            Some(position) => Ok(position),
            None => self.read_all().await,
        };
        let from = match started {
            Ok(from) => from,
            Err(error) => return error,
        };
        match self.broker.sync("", from).await {
            Ok(stream) => self.follow_stream(from.server_version, stream, pause).await,
            Err(error) => error,
        }
    }

    async fn follow_stream(
        &self,
        server_version: u64,
        mut stream: RecordStream<Record>,
        pause: &mut Duration,
    ) -> Error {
        while let Some(next) = stream.next().await {
            match next {
                Ok(record) => self.advance(server_version, &record),
                Err(error) => return error,
            }
            *pause = FIRST_PAUSE;
        }
        Error::Unavailable("the stream of changes ended".into())
    }

    /// Reads every live record, drops what is gone, and says where to go on.
    async fn read_all(&self) -> Result<Versions, Error> {
        // Known before the records, so that they are entered under the right database.
        let expected = self.broker.versions().await?;
        let mut stream = self.broker.sync_latest("").await?;
        let (mut sessions, mut users, mut accounts) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut documents = HashSet::new();
        while let Some(next) = stream.next().await {
            match next? {
                Latest::Versions(at) if at.server_version != expected.server_version => {
                    return Err(Error::Resync);
                }
                Latest::Versions(at) => {
                    let mut position = self.position.lock();
                    self.sessions.keep_only(&sessions, at);
                    self.users.keep_only(&users, at);
                    self.accounts.keep_only(&accounts, at);
                    self.documents.keep_only(&documents);
                    *position = Some(at);
                    drop(position);
                    self.changed();
                    self.ready.send_replace(true);
                    return Ok(at);
                }
                Latest::Record(record) => {
                    let seen = match record.r#type.as_str() {
                        kind if kind.starts_with(config_records::PREFIX) => {
                            documents.insert((record.r#type.clone(), record.id.clone()));
                            let _writing = self.position.lock();
                            self.apply_to_table(expected.server_version, &record);
                            continue;
                        }
                        pb::session::Session::TYPE => &mut sessions,
                        pb::user::User::TYPE => &mut users,
                        pb::user::ServiceAccount::TYPE => &mut accounts,
                        _ => continue,
                    };
                    let _writing = self.position.lock();
                    self.apply_to_table(expected.server_version, &record);
                    seen.insert(record.id);
                }
            }
        }
        Err(Error::Unavailable(
            "the stream of latest records ended early".into(),
        ))
    }

    /// Takes over the next change of the log.
    fn advance(&self, server_version: u64, record: &Record) {
        let mut position = self.position.lock();
        self.apply_to_table(server_version, record);
        *position = Some(Versions {
            server_version,
            latest_record_version: record.version,
        });
        drop(position);
        self.changed();
    }

    /// Only called with the position locked.
    fn apply_to_table(&self, server_version: u64, record: &Record) {
        let applied = match record.r#type.as_str() {
            pb::session::Session::TYPE => self.sessions.apply(server_version, record),
            pb::user::User::TYPE => self.users.apply(server_version, record),
            pb::user::ServiceAccount::TYPE => self.accounts.apply(server_version, record),
            kind if kind.starts_with(config_records::PREFIX) => {
                self.documents.apply(record);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = applied {
            tracing::warn!(%error, version = record.version, "a record that cannot be read is left out");
        }
    }

    fn changed(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

/// Whether `at` is a place no earlier than `min`, in the same database.
fn reaches(at: Versions, min: Option<Versions>) -> bool {
    min.is_none_or(|min| {
        at.server_version == min.server_version && at.latest_record_version >= min.latest_record_version
    })
}

/// A session of another database than the one followed: good for one answer, not to be kept.
fn detached(at: Versions, record: &Record) -> Option<Arc<SessionEntry>> {
    let session = crate::records::from_record(record).ok()?;
    Some(Arc::new(SessionEntry::new(at, session)))
}

impl std::fmt::Debug for SyncedRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncedRecords")
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
