//! Sessions, users, service accounts, devices, and every record that is a free object (the directory, outside
//! data), decoded and kept in step with the databroker; configuration records beside them, as they are.
//!
//! Free objects are bounded by the bytes of their data: what does not fit is left out and [`SyncedRecords::incomplete`]
//! says so, because a record that is missing may be the one that forbids. The other types are bounded by the databroker.
//!
//! Reads take no lock and do no I/O: they are on the path of each request. [`SyncedRecords::run`] is the
//! only writer besides [`SyncedRecords::fetch_session`], which covers the moment between the write of a
//! session and its arrival here. What the records mean (expiry, rights) is not judged here.
//!
//! Of sessions only those [`Parts`] are kept that something reads; `fill` gets what was left out and is read now.
//! `follow` follows the databroker.

mod contact;
mod documents;
mod entry;
mod fill;
mod flight;
mod follow;
mod networks;
mod parts;
mod slot;
mod structs;
mod table;
mod tables;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config_records;
use crate::databroker::{Databroker, Error, Record, SyncObserver, SyncState, Versions};
use contact::Contact;
pub use entry::{
    Confirmed, CredentialEntry, DeviceTypeEntry, EnrollmentEntry, Entry, ServiceAccountEntry, SessionEntry,
    UserEntry,
};
use fill::Kept;
use flight::Flights;
pub use parts::Parts;
pub use structs::StructEntry;
use table::Arrival;
use tables::Tables;

/// Decoded records, kept in step with the databroker.
pub struct SyncedRecords {
    broker: Arc<dyn Databroker>,
    tables: Tables,
    /// How far the tables have followed the change log; its lock makes writers take turns, so that a
    /// fetched record can never come back after its tombstone.
    position: Mutex<Option<Versions>>,
    ready: watch::Sender<bool>,
    generation: watch::Sender<u64>,
    flights: Flights,
    contact: Option<Contact>,
    scope: Scope,
    kept: Kept,
    /// How many snapshots were begun.
    snapshots: AtomicU32,
}

/// Which records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// Those of configuration: this process judges nobody.
    Configuration,
}

impl SyncedRecords {
    /// Empty tables over `broker`; they fill once [`Self::run`] is polled.
    pub fn new(broker: Arc<dyn Databroker>) -> Arc<Self> {
        Self::build(broker, None, Scope::All)
    }

    /// Configuration records alone, over the databroker of this process, for one that judges nobody: it need not read a
    /// million sessions before it is ready. For everything else there is nothing here.
    pub fn of_configuration(broker: Arc<dyn Databroker>) -> Arc<Self> {
        Self::build(broker, None, Scope::Configuration)
    }

    /// As [`Self::new`], over a databroker of another process: what is known here counts until it could not be reached
    /// for `limit`.
    pub fn of_another_process(
        broker: Arc<dyn Databroker>,
        clock: Arc<dyn Clock>,
        limit: Duration,
    ) -> Arc<Self> {
        Self::build(broker, Some(Contact::new(clock, limit)), Scope::All)
    }

    fn build(broker: Arc<dyn Databroker>, contact: Option<Contact>, scope: Scope) -> Arc<Self> {
        Arc::new(Self {
            broker,
            tables: Tables::new(),
            position: Mutex::new(None),
            ready: watch::Sender::new(false),
            generation: watch::Sender::new(0),
            flights: Flights::default(),
            contact,
            scope,
            kept: Kept::new(),
            snapshots: AtomicU32::new(0),
        })
    }

    /// Follows the databroker until `cancel` completes: the latest records first, then each change. Starts
    /// over on [`Error::Resync`]; on other errors goes on from where it stood, after a pause.
    pub async fn run(self: Arc<Self>, cancel: impl Future<Output = ()> + Send) {
        self.run_observed(cancel, &()).await;
    }

    /// As [`Self::run`]; `observer` learns how it goes.
    pub async fn run_observed(
        self: Arc<Self>,
        cancel: impl Future<Output = ()> + Send,
        observer: &dyn SyncObserver,
    ) {
        tokio::select! {
            () = cancel => {}
            () = self.follow_forever(observer) => {}
            () = self.fill_forever() => {}
        }
        observer.state(SyncState::Inactive);
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
        self.tables.sessions.get(id)
    }

    /// The user with this id, as last seen.
    pub fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        self.tables.users.get(id)
    }

    /// The service account with this id, as last seen.
    pub fn service_account(&self, id: &str) -> Option<Arc<ServiceAccountEntry>> {
        self.tables.accounts.get(id)
    }

    /// The device credential with this id, as last seen.
    pub fn device_credential(&self, id: &str) -> Option<Arc<CredentialEntry>> {
        self.tables.credentials.get(id)
    }

    /// The enrollment of a device with this id, as last seen.
    pub fn device_enrollment(&self, id: &str) -> Option<Arc<EnrollmentEntry>> {
        self.tables.enrollments.get(id)
    }

    /// The device type with this id, as last seen.
    pub fn device_type(&self, id: &str) -> Option<Arc<DeviceTypeEntry>> {
        self.tables.device_types.get(id)
    }

    /// What the directory says about the user with this id, as last seen.
    pub fn directory_user(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.tables.structs.directory_users.get(id)
    }

    /// What the directory says about the group with this id, as last seen.
    pub fn directory_group(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.tables.structs.directory_groups.get(id)
    }

    /// A number that grows with each change of a group, after it: while it stands still, no group has changed.
    pub fn directory_group_changes(&self) -> u64 {
        self.tables.structs.directory_groups.changes()
    }

    /// A record as policies see it (spec policy.md 6.2): sessions, users, service accounts, devices and free objects.
    /// None for what has expired at `now`, and for what is [withheld](Self::withholds).
    pub fn json(&self, kind: &str, id: &str, now: Timestamp) -> Option<Arc<Value>> {
        self.tables.json(kind, id, now)
    }

    /// Whether there is such a record, and [`Self::json`] cannot tell of it because some of it was left out.
    pub fn withholds(&self, kind: &str, id: &str) -> bool {
        self.tables.withholds(kind, id)
    }

    /// The free object of `kind` about the smallest network (`$index.cidr`) around `address`.
    pub fn json_at(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        self.tables.json_at(kind, address)
    }

    /// Whether any free object of `kind` is about a network.
    pub fn has_networks(&self, kind: &str) -> bool {
        self.tables.structs.has_networks(kind)
    }

    /// Whether free objects had to be left out for want of room: then that one is not found means nothing.
    pub fn incomplete(&self) -> bool {
        self.tables.structs.incomplete()
    }

    /// The configuration records, by type and id.
    pub fn config_records(&self) -> Vec<Arc<Record>> {
        self.tables.documents.all()
    }

    /// Wakes whenever a configuration record comes, changes or goes.
    pub fn config_changes(&self) -> watch::Receiver<u64> {
        self.tables.documents.changes()
    }

    /// Whether the databroker could not be reached for so long that what is known here does not count any more.
    pub fn out_of_touch(&self, now: Timestamp) -> bool {
        self.contact.as_ref().is_some_and(|contact| contact.is_over(now))
    }

    /// Since when the databroker cannot be reached; `None` while it can, and where it is in this process.
    pub fn lost_since(&self) -> Option<Timestamp> {
        self.contact.as_ref().and_then(Contact::lost_since)
    }

    /// Tells when the databroker of another process is lost (true) and found again; `None` where it is in this one.
    pub fn outages(&self) -> Option<watch::Receiver<bool>> {
        self.contact.as_ref().map(Contact::told)
    }

    /// How far the change log has been followed; `None` before the first complete read.
    pub fn position(&self) -> Option<Versions> {
        *self.position.lock()
    }

    /// A number that grows with each change taken over. That a record was used is none.
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
        let found = self.accept_session(id, answer?, Parts::NONE);
        let stale = !found.as_ref().is_some_and(|entry| reaches(entry.at(), min));
        if !(joined && stale) {
            return Ok(found);
        }
        // The question shared may have been asked before `min` was written.
        let (_, answer) = self.flights.ask(&self.broker, id).await;
        Ok(self.accept_session(id, answer?, Parts::NONE))
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
        let changed = self.apply_to_table(self.arrival(server_version, Parts::NONE), record);
        drop(position);
        self.changed_if(changed);
    }

    /// What memory alone can answer: `Some(None)` is a certain "there is none".
    fn known_session(&self, id: &str, min: Option<Versions>) -> Option<Option<Arc<SessionEntry>>> {
        // The position first: a record that arrives in between is then only seen as "ask".
        let position = self.position();
        match self.tables.sessions.get(id) {
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
    /// Of the session `parts` are kept beside those that always are.
    fn accept_session(
        &self,
        id: &str,
        answer: Option<(u64, Record)>,
        parts: Parts,
    ) -> Option<Arc<SessionEntry>> {
        let (server_version, record) = answer?;
        let at = Versions {
            server_version,
            latest_record_version: record.version,
        };
        let position = self.position.lock();
        let changed = match *position {
            Some(known) if known.server_version != server_version => return detached(at, &record),
            Some(known) if at.latest_record_version <= known.latest_record_version => {
                self.complete_in_table(server_version, &record, parts);
                false
            }
            _ => self.apply_to_table(self.arrival(server_version, parts), &record),
        };
        drop(position);
        self.changed_if(changed);
        self.tables.sessions.get(id)
    }

    /// Only called with the position locked. Whether something may be different now.
    fn apply_to_table(&self, arrival: Arrival, record: &Record) -> bool {
        if self.scope == Scope::Configuration && !record.r#type.starts_with(config_records::PREFIX) {
            return false;
        }
        self.tables.apply(arrival, record).unwrap_or_else(|error| {
            tracing::warn!(%error, version = record.version, "a record that cannot be read is left out");
            true
        })
    }

    fn changed_if(&self, changed: bool) {
        if changed {
            self.changed();
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
