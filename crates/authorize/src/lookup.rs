//! The records that a policy may ask for while it is judged.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use pomerium_api::records::GEOIP;
use pomerium_api::synced::SyncedRecords;
use pomerium_policy::RecordLookup;
use serde_json::Value;

use crate::geoip::GeoIp;
use crate::principal::Principal;

/// The records at one moment, for one judgement: the synced ones, and behind them the places of a GeoIP database.
///
/// Where records had to be left out for want of room, or the database is damaged, one that is not found makes the
/// judgement doubtful: it may be the one that forbids. So does a session that is here without its tokens, because no
/// policy read sessions until now. A doubtful judgement must not be acted on.
#[derive(Debug)]
pub struct Lookup<'a> {
    records: View<'a>,
    now: Timestamp,
    /// Something was not found that may be there.
    doubtful: AtomicBool,
    /// A script was given the records, and what it does not find is not seen from here. True when it was denied one.
    lent: OnceLock<Arc<AtomicBool>>,
}

impl<'a> Lookup<'a> {
    /// Looks records up as they are at `now`.
    pub fn new(synced: &'a Arc<SyncedRecords>, geoip: Option<&'a Arc<GeoIp>>, now: Timestamp) -> Self {
        Self {
            records: View { synced, geoip },
            now,
            doubtful: AtomicBool::new(false),
            lent: OnceLock::new(),
        }
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether something was not found that may be there, by this or when `principal` was looked up.
    pub fn is_doubtful(&self, principal: Option<&Principal>) -> bool {
        let lacks = || principal.is_some_and(Principal::lacks_directory_records);
        let lent = |denied: &Arc<AtomicBool>| denied.load(Ordering::Acquire) || self.records.incomplete();
        self.doubtful.load(Ordering::Acquire)
            || self.lent.get().is_some_and(lent)
            || (self.records.synced.incomplete() && lacks())
    }

    /// Passes on what was found, and notes what was not found and may be there.
    fn doubt(&self, found: bool) -> bool {
        // What was last seen too long ago may be otherwise by now.
        if (!found && self.records.incomplete()) || self.records.synced.out_of_touch(self.now) {
            self.doubtful.store(true, Ordering::Release);
        }
        found
    }
}

impl RecordLookup for Lookup<'_> {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        let found = self.records.json(kind, id, self.now);
        if found.is_none() && self.records.synced.withholds(kind, id) {
            self.doubtful.store(true, Ordering::Release);
        }
        self.doubt(found.is_some());
        found
    }

    fn has_networks(&self, kind: &str) -> bool {
        self.records.has_networks(kind) || self.doubt(false)
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        let found = self.records.json_at(kind, address);
        self.doubt(found.is_some());
        found
    }

    fn owned(&self) -> Arc<dyn RecordLookup> {
        let denied = self.lent.get_or_init(Arc::default);
        Arc::new(Owned {
            records: Arc::clone(self.records.synced),
            geoip: self.records.geoip.cloned(),
            now: self.now,
            denied: Arc::clone(denied),
        })
    }
}

/// Where records are looked up; the synced ones win.
#[derive(Debug, Clone, Copy)]
struct View<'a> {
    synced: &'a Arc<SyncedRecords>,
    geoip: Option<&'a Arc<GeoIp>>,
}

impl View<'_> {
    /// Whether that something is not found means nothing.
    fn incomplete(self) -> bool {
        self.synced.incomplete() || self.geoip.is_some_and(|geoip| geoip.is_broken())
    }

    fn json(self, kind: &str, id: &str, now: Timestamp) -> Option<Arc<Value>> {
        self.synced.json(kind, id, now)
    }

    fn has_networks(self, kind: &str) -> bool {
        self.synced.has_networks(kind) || (kind == GEOIP && self.geoip.is_some())
    }

    fn json_at(self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        let place = || self.geoip.filter(|_| kind == GEOIP)?.find(address);
        self.synced.json_at(kind, address).or_else(place)
    }
}

/// A lookup that is held on to.
#[derive(Debug, Clone)]
struct Owned {
    records: Arc<SyncedRecords>,
    geoip: Option<Arc<GeoIp>>,
    now: Timestamp,
    /// A record was asked for that is here and cannot be shown.
    denied: Arc<AtomicBool>,
}

impl Owned {
    fn view(&self) -> View<'_> {
        View {
            synced: &self.records,
            geoip: self.geoip.as_ref(),
        }
    }
}

impl RecordLookup for Owned {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        let found = self.records.json(kind, id, self.now);
        if found.is_none() && self.records.withholds(kind, id) {
            self.denied.store(true, Ordering::Release);
        }
        found
    }

    fn has_networks(&self, kind: &str) -> bool {
        let (synced, geoip) = (&self.records, self.geoip.as_ref());
        View { synced, geoip }.has_networks(kind)
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        self.view().json_at(kind, address)
    }

    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(self.clone())
    }
}
