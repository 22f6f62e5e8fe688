//! What a write does, as bytes: the counters after it, then one operation after the other. Each says what is so from then
//! on, never a difference, so that it does no harm when it is carried out once more.

use std::ops::Range;

use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::store::{Counters, Registered};

/// A record, live and in the change log.
pub(super) const PUT: u8 = 1;
/// A live record that is not in the change log.
pub(super) const INSERT: u8 = 2;
/// An entry of the change log alone.
pub(super) const CHANGE: u8 = 3;
/// A record that is there already, at its new place.
pub(super) const MOVE: u8 = 4;
const REMOVE: u8 = 5;
const TRIM: u8 = 6;
const CLEAR: u8 = 7;
const CLEAR_CHANGES: u8 = 8;
const OPTIONS: u8 = 9;
const NO_OPTIONS: u8 = 10;
const LEASE: u8 = 11;
const SERVICE: u8 = 12;
const SERVICE_GONE: u8 = 13;

/// An operation, as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op<'a> {
    /// [`PUT`], [`INSERT`], [`CHANGE`] or [`MOVE`].
    Blob(u8, Blob<'a>),
    /// A live record goes.
    Remove { record_type: &'a str, id: &'a str },
    /// The change log begins behind this version.
    Trim(u64),
    /// Records, changes and options go.
    Clear,
    /// The change log goes.
    ClearChanges,
    /// How records of a type are kept.
    Options {
        record_type: &'a str,
        value: Option<&'a [u8]>,
    },
    /// Who holds a lease, until when (µs since 1970).
    Lease {
        name: &'a str,
        id: &'a str,
        expires: i64,
    },
    /// A service and until when it is known; `None` is not any more.
    Service {
        kind: i32,
        endpoint: &'a str,
        expires: Option<i64>,
    },
}

/// A sealed record with what is known of it without opening it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blob<'a> {
    pub(super) version: u64,
    /// When it was written (µs since 1970).
    pub(super) micros: i64,
    pub(super) record_type: &'a str,
    pub(super) id: &'a str,
    /// The sealed record.
    pub(super) value: &'a [u8],
    /// Of the bytes that were read: those of the blob.
    pub(super) place: Range<usize>,
}

/// Why bytes are no operations.
pub(super) const GARBLED: &str = "its contents are garbled";

/// Appends a blob; returns where it is.
pub(super) fn blob(out: &mut Vec<u8>, kind: u8, blob: &Blob<'_>) -> Range<usize> {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&xxh3_64(blob.value).to_le_bytes());
    out.extend_from_slice(&blob.version.to_le_bytes());
    out.extend_from_slice(&blob.micros.to_le_bytes());
    text(out, blob.record_type);
    text(out, blob.id);
    bytes(out, blob.value);
    start..out.len()
}

pub(super) fn remove(out: &mut Vec<u8>, record_type: &str, id: &str) {
    out.push(REMOVE);
    text(out, record_type);
    text(out, id);
}

pub(super) fn trim(out: &mut Vec<u8>, version: u64) {
    out.push(TRIM);
    out.extend_from_slice(&version.to_le_bytes());
}

pub(super) fn clear(out: &mut Vec<u8>) {
    out.push(CLEAR);
}

pub(super) fn clear_changes(out: &mut Vec<u8>) {
    out.push(CLEAR_CHANGES);
}

pub(super) fn options(out: &mut Vec<u8>, record_type: &str, value: Option<&[u8]>) {
    out.push(if value.is_some() { OPTIONS } else { NO_OPTIONS });
    text(out, record_type);
    if let Some(value) = value {
        bytes(out, value);
    }
}

pub(super) fn lease(out: &mut Vec<u8>, name: &str, id: &str, expires: Timestamp) {
    out.push(LEASE);
    text(out, name);
    text(out, id);
    out.extend_from_slice(&expires.as_microsecond().to_le_bytes());
}

pub(super) fn service(out: &mut Vec<u8>, service: &Registered) {
    out.push(SERVICE);
    out.extend_from_slice(&service.kind.to_le_bytes());
    text(out, &service.endpoint);
    out.extend_from_slice(&service.expires.as_microsecond().to_le_bytes());
}

pub(super) fn service_gone(out: &mut Vec<u8>, service: &Registered) {
    out.push(SERVICE_GONE);
    out.extend_from_slice(&service.kind.to_le_bytes());
    text(out, &service.endpoint);
}

/// Bytes of the counters.
pub(super) const COUNTERS: usize = 32;

pub(super) fn counters(counters: Counters) -> [u8; COUNTERS] {
    let numbers = [
        counters.server_version,
        counters.latest,
        counters.trimmed,
        counters.mark(),
    ];
    let mut out = [0; COUNTERS];
    for (place, number) in out.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    bytes(out, text.as_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // What is longer than 4 GB is refused before it comes here; cut off, it would be found to be garbled.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads pieces of bytes in order; `None` where they end early.
pub(super) struct Pieces<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.all.len()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let found = self.all.get(self.at..end)?;
        self.at = end;
        Some(found)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn counters(&mut self) -> Option<Counters> {
        let [server_version, latest, trimmed] = [self.u64()?, self.u64()?, self.u64()?];
        let (standing, term) = Counters::of_mark(self.u64()?);
        Some(Counters {
            server_version,
            latest,
            trimmed,
            standing,
            term,
        })
    }

    /// The next operation.
    pub(super) fn op(&mut self) -> Option<Op<'a>> {
        let start = self.at;
        let [kind] = self.array()?;
        Some(match kind {
            PUT | INSERT | CHANGE | MOVE => Op::Blob(kind, self.blob(start)?),
            REMOVE => Op::Remove {
                record_type: self.text()?,
                id: self.text()?,
            },
            TRIM => Op::Trim(self.u64()?),
            CLEAR => Op::Clear,
            CLEAR_CHANGES => Op::ClearChanges,
            OPTIONS => Op::Options {
                record_type: self.text()?,
                value: Some(self.bytes()?),
            },
            NO_OPTIONS => Op::Options {
                record_type: self.text()?,
                value: None,
            },
            LEASE => Op::Lease {
                name: self.text()?,
                id: self.text()?,
                expires: self.i64()?,
            },
            SERVICE => Op::Service {
                kind: self.array().map(i32::from_le_bytes)?,
                endpoint: self.text()?,
                expires: Some(self.i64()?),
            },
            SERVICE_GONE => Op::Service {
                kind: self.array().map(i32::from_le_bytes)?,
                endpoint: self.text()?,
                expires: None,
            },
            _ => return None,
        })
    }

    /// A blob behind its kind; `start` is where that is. Its own checksum is looked at by whoever reads it alone.
    fn blob(&mut self, start: usize) -> Option<Blob<'a>> {
        self.u64()?;
        Some(Blob {
            version: self.u64()?,
            micros: self.i64()?,
            record_type: self.text()?,
            id: self.text()?,
            value: self.bytes()?,
            place: start..self.at,
        })
    }
}

/// When the record in a blob was written (µs since 1970), if the blob is of this record: that can be told of many whose value
/// is damaged.
pub(super) fn micros(all: &[u8], (record_type, id): (&str, &str), version: u64) -> Option<i64> {
    let Op::Blob(_, blob) = Pieces::new(all).op()? else {
        return None;
    };
    let is_it = (blob.record_type, blob.id, blob.version) == (record_type, id, version);
    is_it.then_some(blob.micros)
}

/// The one blob that `all` is, if it is whole.
pub(super) fn whole_blob(all: &[u8]) -> Option<Blob<'_>> {
    let mut pieces = Pieces::new(all);
    let Op::Blob(_, blob) = pieces.op()? else {
        return None;
    };
    let sum = Pieces::new(all.get(1..)?).u64()?;
    (pieces.is_empty() && sum == xxh3_64(blob.value)).then_some(blob)
}
