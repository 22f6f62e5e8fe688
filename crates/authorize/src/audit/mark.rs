//! Records about the stream itself: where it began and ended, and what is missing in it.

use jiff::Timestamp;
use serde::Serialize;

use super::{VERSION, json};

/// Records that were left out, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// How many.
    pub dropped: u64,
    /// Number of the first of them.
    pub first_seq: u64,
    /// Number of the last of them.
    pub last_seq: u64,
    /// Time of the first of them.
    pub from: Timestamp,
    /// Time of the last of them.
    pub to: Timestamp,
    /// Why.
    pub why: &'static str,
}

/// A record about the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Mark<'a> {
    /// The stream begins. Without a `stop` before it the last one was cut off.
    Start {
        /// Version of the program.
        program: &'a str,
        /// Whether records of requests that were let in are in the stream.
        decisions: &'a str,
    },
    /// The stream ends as it should.
    Stop {
        /// How many records were left out over its whole life.
        dropped: u64,
    },
    /// Records are missing here.
    Gap(Gap),
}

#[derive(Serialize)]
struct Marked<'a> {
    version: u32,
    time: Timestamp,
    #[serde(flatten)]
    mark: &'a Mark<'a>,
}

impl Mark<'_> {
    /// The record, without a line end.
    pub fn line(&self, now: Timestamp) -> Vec<u8> {
        let mut out = Vec::new();
        let marked = Marked {
            version: VERSION,
            time: now,
            mark: self,
        };
        json::append(&mut out, &marked);
        out
    }
}

/// Appends a record with its place in the stream and a line end. `record` is one JSON object.
pub fn stamped(out: &mut Vec<u8>, stream: &str, seq: u64, record: &[u8]) {
    out.extend_from_slice(b"{\"stream\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\",\"seq\":");
    crate::text::number(out, seq);
    out.push(b',');
    out.extend_from_slice(record.get(1..).unwrap_or(b"}"));
    out.push(b'\n');
}
