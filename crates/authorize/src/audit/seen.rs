//! Notes which records a policy looks up.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pomerium_policy::RecordLookup;
use serde_json::Value;

use super::facts::{By, LookedUp};

/// Passes every question on and keeps the answer.
pub(super) struct Seen<'a> {
    inner: &'a dyn RecordLookup,
    seen: Mutex<Vec<LookedUp>>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(inner: &'a dyn RecordLookup) -> Self {
        Self {
            inner,
            seen: Mutex::default(),
        }
    }

    /// What was asked so far, each question once. A question without a key tells how a record would have been asked
    /// for; it is told only where none was.
    pub(super) fn take(&self) -> Vec<LookedUp> {
        let mut seen = std::mem::take(&mut *self.seen.lock());
        let asked: Vec<String> = seen
            .iter()
            .filter(|one| !one.key.is_empty())
            .map(|one| one.kind.clone())
            .collect();
        seen.retain(|one| !one.key.is_empty() || !asked.contains(&one.kind));
        seen
    }

    fn note(&self, kind: &str, by: By, key: String, record: Option<&Arc<Value>>) {
        let looked_up = LookedUp {
            kind: kind.to_owned(),
            by,
            key,
            record: record.cloned(),
        };
        let mut seen = self.seen.lock();
        if !seen.contains(&looked_up) {
            seen.push(looked_up);
        }
    }
}

impl RecordLookup for Seen<'_> {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        let record = self.inner.by_id(kind, id);
        self.note(kind, By::Id, id.to_owned(), record.as_ref());
        record
    }

    fn has_networks(&self, kind: &str) -> bool {
        let networks = self.inner.has_networks(kind);
        let by = if networks { By::Address } else { By::Id };
        self.note(kind, by, String::new(), None);
        networks
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        let record = self.inner.by_address(kind, address);
        self.note(kind, By::Address, address.to_string(), record.as_ref());
        record
    }

    /// What scripts look up is not noted: they look at more than a record holds, and are not judged again.
    fn owned(&self) -> Arc<dyn RecordLookup> {
        self.inner.owned()
    }
}

/// The records of a log: what was asked then can be asked again.
pub(super) struct Logged<'a> {
    known: &'a [LookedUp],
    /// Whether something else was asked.
    missing: Mutex<Vec<String>>,
}

impl<'a> Logged<'a> {
    pub(super) fn new(known: &'a [LookedUp]) -> Self {
        Self {
            known,
            missing: Mutex::default(),
        }
    }

    /// What was asked that is not in the log.
    pub(super) fn missing(&self) -> Vec<String> {
        std::mem::take(&mut self.missing.lock())
    }

    fn find(&self, kind: &str, by: By, key: &str) -> Option<Arc<Value>> {
        let found = self
            .known
            .iter()
            .find(|known| known.kind == kind && known.by == by && known.key == key);
        if found.is_none() {
            self.missing.lock().push(format!("the record {kind} of {key}"));
        }
        found?.record.clone()
    }
}

impl RecordLookup for Logged<'_> {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        self.find(kind, By::Id, id)
    }

    /// As records of `kind` were asked for then. Where none was asked for, nobody can tell.
    fn has_networks(&self, kind: &str) -> bool {
        let asked = self.known.iter().find(|known| known.kind == kind);
        if asked.is_none() {
            let what = format!("whether records {kind} have networks");
            self.missing.lock().push(what);
        }
        asked.is_some_and(|known| known.by == By::Address)
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        self.find(kind, By::Address, &address.to_string())
    }

    /// For scripts, which are not judged from a log.
    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(pomerium_policy::NoRecords)
    }
}
