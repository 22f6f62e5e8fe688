//! A record as a table has it: encoded, and decoded for as long as somebody works with it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, ArcSwapWeak};
use prost::Message as _;
use serde_json::Value;

use super::entry::Entry;
use super::parts::Parts;
use crate::databroker::Versions;
use crate::json;

/// A record as it came, without what is left out: most are of people who are not here just now, and decoded they take
/// several times the room. There may be a million of these.
pub(super) struct Slot<E> {
    pub(super) at: Versions,
    /// The last version that said the same.
    confirmed: AtomicU64,
    encoded: Box<[u8]>,
    /// The entry, as long as somebody has it: the same one for everybody, so that it tells by its address whether
    /// anything has changed.
    entry: ArcSwapWeak<E>,
    /// The same as JSON, made for the first policy that asks.
    json: ArcSwapOption<Value>,
    /// The last snapshot that named it; 0 is none.
    pub(super) snapshot: AtomicU32,
    pub(super) left_out: Parts,
}

impl<E: Entry> Slot<E> {
    pub(super) fn new(at: Versions, message: &E::Message, left_out: Parts) -> Self {
        Self {
            at,
            confirmed: AtomicU64::new(at.latest_record_version),
            encoded: message.encode_to_vec().into(),
            entry: ArcSwapWeak::default(),
            json: ArcSwapOption::empty(),
            snapshot: AtomicU32::new(0),
            left_out,
        }
    }

    pub(super) fn at(&self) -> Versions {
        Versions {
            server_version: self.at.server_version,
            latest_record_version: self.confirmed.load(Ordering::Acquire),
        }
    }

    /// The one entry there is of it, or a new one.
    pub(super) fn entry(&self) -> Option<Arc<E>> {
        loop {
            let known = self.entry.load();
            if let Some(entry) = known.upgrade() {
                return Some(entry);
            }
            let mut entry = E::new(self.at, self.message()?);
            entry.confirm(self.confirmed.load(Ordering::Acquire));
            entry.set_left_out(self.left_out);
            let entry = Arc::new(entry);
            let before = self.entry.compare_and_swap(&*known, Arc::downgrade(&entry));
            // Else somebody was faster: theirs is the one.
            if Weak::ptr_eq(&before, &known) {
                return Some(entry);
            }
        }
    }

    /// It was decoded once before it came here.
    fn message(&self) -> Option<E::Message> {
        E::Message::decode(&*self.encoded).ok()
    }

    /// Whether `later` differs in nothing but the moment of the last use.
    pub(super) fn only_used_since(&self, later: &E::Message) -> bool {
        self.message()
            .is_some_and(|message| E::new(self.at, message).only_used_since(later))
    }

    /// Notes that a later version says the same.
    pub(super) fn confirm(&self, version: u64) {
        self.confirmed.fetch_max(version, Ordering::AcqRel);
        if let Some(entry) = self.entry.load().upgrade() {
            entry.confirm(version);
        }
    }

    /// Notes the snapshot that names it.
    pub(super) fn name(&self, snapshot: Option<u32>) {
        if let Some(snapshot) = snapshot {
            self.snapshot.store(snapshot, Ordering::Relaxed);
        }
    }

    /// The record as policies see it.
    pub(super) fn json(&self) -> Option<Arc<Value>> {
        let known = self.json.load_full();
        known.or_else(|| {
            let made = json::from_message(&self.message()?).map(Arc::new);
            self.json.store(made.clone());
            made
        })
    }
}
