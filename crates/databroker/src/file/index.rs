//! What is where: every live record and every entry of the change log by its place in the segments, and what is small
//! enough to be here whole. It is carried forward by the same operations that are on the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use pomerium_api::databroker::Error;

use super::folder::Handle;
use super::op::{self, Blob, GARBLED, Op, Pieces};
use super::rows::Rows;
use super::small::Small;
use super::unavailable;
use crate::store::Counters;

/// The place of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: u32,
    /// From the start of the segment, in bytes.
    pub(super) at: u32,
    /// In bytes.
    pub(super) length: u32,
}

/// A live record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) version: u64,
    pub(super) spot: Spot,
}

/// An entry of the change log.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    /// When it was made (µs since 1970).
    pub(super) micros: i64,
    pub(super) record_type: Arc<str>,
    pub(super) spot: Spot,
}

/// The live records of a type.
#[derive(Default)]
pub(super) struct OfType {
    pub(super) rows: Rows,
    /// Version → id, once somebody has asked for the oldest.
    order: OnceLock<BTreeMap<u64, Box<str>>>,
}

impl OfType {
    pub(super) fn new(rows: Rows) -> Self {
        Self {
            rows,
            order: OnceLock::new(),
        }
    }

    /// Version → id.
    pub(super) fn order(&self) -> &BTreeMap<u64, Box<str>> {
        self.order.get_or_init(|| {
            let rows = self.rows.after(None);
            rows.map(|(id, entry)| (entry.version, id.into())).collect()
        })
    }

    /// The entry that was there before.
    fn insert(&mut self, id: &str, entry: Entry) -> Option<Entry> {
        let before = self.rows.insert(id, entry);
        self.forget(id, before);
        if let Some(order) = self.order.get_mut() {
            order.insert(entry.version, id.into());
        }
        before
    }

    fn remove(&mut self, id: &str) -> Option<Entry> {
        let before = self.rows.remove(id);
        self.forget(id, before);
        before
    }

    /// While a copy is made, another record may have its place in the order.
    fn forget(&mut self, id: &str, before: Option<Entry>) {
        if let (Some(order), Some(before)) = (self.order.get_mut(), before)
            && order.get(&before.version).is_some_and(|owner| **owner == *id)
        {
            order.remove(&before.version);
        }
    }
}

/// A segment in use.
pub(super) struct Segment {
    pub(super) file: Arc<dyn Handle>,
    /// Bytes of the live records in it.
    pub(super) live: u64,
    /// Its length in bytes, without what was never acknowledged.
    pub(super) end: u64,
}

/// All of it, as of one moment.
pub(super) struct Index {
    pub(super) counters: Counters,
    pub(super) live: BTreeMap<Arc<str>, OfType>,
    /// By version.
    pub(super) log: VecDeque<Change>,
    pub(super) small: Small,
    pub(super) segments: BTreeMap<u32, Segment>,
}

impl Index {
    /// Of an empty store.
    pub(super) fn new(counters: Counters) -> Self {
        Self {
            counters,
            live: BTreeMap::new(),
            log: VecDeque::new(),
            small: Small::default(),
            segments: BTreeMap::new(),
        }
    }

    pub(super) fn find(&self, record_type: &str, id: &str) -> Option<Entry> {
        self.live.get(record_type)?.rows.get(id).copied()
    }

    /// Where to read a blob.
    pub(super) fn file(&self, spot: Spot) -> Result<Arc<dyn Handle>, Error> {
        let segment = self.segments.get(&spot.segment);
        segment
            .map(|segment| Arc::clone(&segment.file))
            .ok_or_else(|| unavailable(format_args!("segment {} is missing", spot.segment)))
    }

    /// Where the entry of this version is in the log.
    fn place(&self, version: u64) -> Result<usize, usize> {
        self.log.binary_search_by_key(&version, |change| change.version)
    }

    /// Whether a live record is also in the change log, with one blob for both.
    pub(super) fn is_change(&self, entry: &Entry) -> bool {
        let place = self.place(entry.version);
        place.is_ok_and(|place| self.log[place].spot == entry.spot)
    }

    /// The changes after `version`.
    pub(super) fn changes_after(&self, version: u64) -> impl Iterator<Item = &Change> {
        let first = self.log.partition_point(|change| change.version <= version);
        self.log.range(first..)
    }

    /// Carries out the operations of a frame, whose contents begin at the byte `at` of `segment`.
    pub(super) fn carry_out(&mut self, contents: &[u8], segment: u32, at: u64) -> Result<(), &'static str> {
        let mut pieces = Pieces::new(contents);
        let counters = pieces.counters().ok_or(GARBLED)?;
        while !pieces.is_empty() {
            self.step(pieces.op().ok_or(GARBLED)?, segment, at)?;
        }
        self.counters = counters;
        Ok(())
    }

    /// Carries out operations without blobs.
    pub(super) fn carry_out_small(&mut self, ops: &[u8]) -> Result<(), &'static str> {
        let mut pieces = Pieces::new(ops);
        while !pieces.is_empty() {
            match pieces.op().ok_or(GARBLED)? {
                Op::Blob(..) => return Err(GARBLED),
                op => self.step(op, 0, 0)?,
            }
        }
        Ok(())
    }

    fn step(&mut self, op: Op<'_>, segment: u32, at: u64) -> Result<(), &'static str> {
        match op {
            Op::Blob(kind, blob) => {
                let spot = spot(segment, at, &blob)?;
                self.blob(kind, &blob, spot);
            }
            Op::Remove { record_type, id } => self.remove(record_type, id),
            Op::Trim(version) => {
                while self.log.front().is_some_and(|change| change.version <= version) {
                    self.log.pop_front();
                }
                if self.log.capacity() / 4 > self.log.len() {
                    self.log.shrink_to(2 * self.log.len());
                }
            }
            Op::Clear => {
                self.live.clear();
                self.log = VecDeque::new();
                self.small.options.clear();
                self.segments.values_mut().for_each(|segment| segment.live = 0);
            }
            Op::ClearChanges => self.log = VecDeque::new(),
            other => self.small.step(&other)?,
        }
        Ok(())
    }

    fn blob(&mut self, kind: u8, blob: &Blob<'_>, spot: Spot) {
        let entry = Entry {
            version: blob.version,
            spot,
        };
        match kind {
            op::MOVE => {
                if let Ok(place) = self.place(blob.version) {
                    self.log[place].spot = spot;
                }
                let here = self.find(blob.record_type, blob.id);
                if here.is_some_and(|here| here.version == blob.version) {
                    self.insert(blob.record_type, blob.id, entry);
                }
            }
            op::INSERT => self.insert(blob.record_type, blob.id, entry),
            op::CHANGE => self.append(blob, spot),
            _ => {
                self.insert(blob.record_type, blob.id, entry);
                self.append(blob, spot);
            }
        }
    }

    fn insert(&mut self, record_type: &str, id: &str, entry: Entry) {
        let before = match self.live.get_mut(record_type) {
            Some(of_type) => of_type.insert(id, entry),
            None => self.live.entry(record_type.into()).or_default().insert(id, entry),
        };
        self.gone(before);
        if let Some(segment) = self.segments.get_mut(&entry.spot.segment) {
            segment.live += u64::from(entry.spot.length);
        }
    }

    fn remove(&mut self, record_type: &str, id: &str) {
        let Some(of_type) = self.live.get_mut(record_type) else {
            return;
        };
        let before = of_type.remove(id);
        if of_type.rows.is_empty() {
            self.live.remove(record_type);
        }
        self.gone(before);
    }

    fn gone(&mut self, before: Option<Entry>) {
        if let Some(Entry { spot, .. }) = before
            && let Some(segment) = self.segments.get_mut(&spot.segment)
        {
            segment.live = segment.live.saturating_sub(u64::from(spot.length));
        }
    }

    fn append(&mut self, blob: &Blob<'_>, spot: Spot) {
        let known = self.live.get_key_value(blob.record_type);
        let change = Change {
            version: blob.version,
            micros: blob.micros,
            record_type: known.map_or_else(|| blob.record_type.into(), |(name, _)| Arc::clone(name)),
            spot,
        };
        match self.place(blob.version) {
            // Carried out once more.
            Ok(place) => self.log[place] = change,
            Err(place) if place == self.log.len() => self.log.push_back(change),
            // It was dropped by an operation that comes later.
            Err(_) => {}
        }
    }

    /// Counts the bytes of live records in each segment.
    pub(super) fn count_live(&mut self) {
        self.segments.values_mut().for_each(|segment| segment.live = 0);
        for entry in self.live.values().flat_map(|of_type| of_type.rows.entries()) {
            if let Some(segment) = self.segments.get_mut(&entry.spot.segment) {
                segment.live += u64::from(entry.spot.length);
            }
        }
    }
}

fn spot(segment: u32, at: u64, blob: &Blob<'_>) -> Result<Spot, &'static str> {
    let fits = |number: u64| u32::try_from(number).map_err(|_| "it is longer than 4 GB");
    Ok(Spot {
        segment,
        at: fits(at + blob.place.start as u64)?,
        length: fits(blob.place.len() as u64)?,
    })
}
