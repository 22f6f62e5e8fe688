//! The records that a policy may ask for while it is judged.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use pomerium_api::synced::SyncedRecords;
use pomerium_policy::RecordLookup;
use serde_json::Value;

use crate::principal::Principal;

/// The synced records at one moment, for one judgement.
///
/// Where records had to be left out for want of room, one that is not found makes the judgement doubtful: it may be the
/// one that forbids. A doubtful judgement must not be acted on.
#[derive(Debug)]
pub struct Lookup<'a> {
    records: &'a Arc<SyncedRecords>,
    now: Timestamp,
    doubtful: AtomicBool,
}

impl<'a> Lookup<'a> {
    /// Looks records up as they are at `now`.
    pub fn new(records: &'a Arc<SyncedRecords>, now: Timestamp) -> Self {
        Self {
            records,
            now,
            doubtful: AtomicBool::new(false),
        }
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether something was not found that may be there, by this or when `principal` was looked up.
    pub fn is_doubtful(&self, principal: Option<&Principal>) -> bool {
        let lacks = || principal.is_some_and(Principal::lacks_directory_records);
        self.records.incomplete() && (self.doubtful.load(Ordering::Acquire) || lacks())
    }

    /// Whether records of `kind` are looked up by address: at least one of them has a network.
    pub fn has_networks(&self, kind: &str) -> bool {
        self.records.has_networks(kind) || self.doubt(false)
    }

    /// Passes on what was found, and notes what was not found and may be there.
    fn doubt(&self, found: bool) -> bool {
        if !found && self.records.incomplete() {
            self.doubtful.store(true, Ordering::Release);
        }
        found
    }
}

impl RecordLookup for Lookup<'_> {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        let found = self.records.json(kind, id, self.now);
        self.doubt(found.is_some());
        found
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        let found = self.records.json_at(kind, address);
        self.doubt(found.is_some());
        found
    }

    /// What scripts look up is not seen from here: all of it is doubtful where anything is.
    fn owned(&self) -> Arc<dyn RecordLookup> {
        self.doubt(false);
        Arc::new(Owned {
            records: Arc::clone(self.records),
            now: self.now,
        })
    }
}

/// The same without a borrow.
#[derive(Debug)]
struct Owned {
    records: Arc<SyncedRecords>,
    now: Timestamp,
}

impl RecordLookup for Owned {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        self.records.json(kind, id, self.now)
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        self.records.json_at(kind, address)
    }

    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(Self {
            records: Arc::clone(&self.records),
            now: self.now,
        })
    }
}
