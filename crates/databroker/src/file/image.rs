//! The index as a file: where everything was at some moment, and from which segment on the operations are to be carried
//! out again. It is written while others write: what it has from after that segment began is carried out once more, which
//! changes nothing.

mod read;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use xxhash_rust::xxh3::Xxh3;

pub(super) use self::read::{is_whole, read};
use super::folder::{Folder, Handle};
use super::index::{Change, Entry, Index, Spot};
use super::op;

/// The file.
pub(super) const NAME: &str = "databroker.index";
/// The file while it is written.
pub(super) const UNFINISHED: &str = "databroker.index.new";

const MAGIC: &[u8; 8] = b"PMRINDEX";
/// The layout of index and segments.
pub(super) const FORMAT: &str = "3";
const SUM: u64 = 8;
/// How many rows are written in one go.
const CHUNK: usize = 2_000;
/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 20;

const TYPE: u8 = 1;
const ROW: u8 = 2;
const CHANGE: u8 = 3;
const SMALL: u8 = 4;
const END: u8 = 5;

/// What the file says of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) key_check: Option<Vec<u8>>,
    /// The line of segments.
    pub(super) line: u64,
    /// The first segment that is to be carried out again.
    pub(super) first: u32,
}

/// Why there is no index.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(io::Error),
    /// It has this format.
    Format(String),
    /// What is wrong.
    Damaged(&'static str),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut short"),
            _ => Self::Io(error),
        }
    }
}

struct Output {
    file: Arc<dyn Handle>,
    buffer: Vec<u8>,
    at: u64,
    sum: Xxh3,
    types: HashMap<Arc<str>, u32>,
}

impl Output {
    fn write_out(&mut self) -> io::Result<()> {
        self.sum.update(&self.buffer);
        self.file.write_at(self.at, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn write_out_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.write_out()
    }

    /// The number of a type, told before it is first used.
    fn number_of(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.types.get(name) {
            return *number;
        }
        let number = u32::try_from(self.types.len()).unwrap_or(u32::MAX);
        self.types.insert(Arc::clone(name), number);
        self.buffer.push(TYPE);
        op::bytes(&mut self.buffer, name.as_bytes());
        number
    }

    fn spot(&mut self, spot: Spot) {
        for number in [spot.segment, spot.at, spot.length] {
            self.buffer.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn row(&mut self, record_type: u32, id: &str, entry: &Entry) {
        self.buffer.push(ROW);
        self.buffer.extend_from_slice(&record_type.to_le_bytes());
        self.buffer.extend_from_slice(&entry.version.to_le_bytes());
        self.spot(entry.spot);
        op::bytes(&mut self.buffer, id.as_bytes());
    }

    fn change(&mut self, change: &Change) {
        let record_type = self.number_of(&change.record_type);
        self.buffer.push(CHANGE);
        self.buffer.extend_from_slice(&record_type.to_le_bytes());
        self.buffer.extend_from_slice(&change.version.to_le_bytes());
        self.buffer.extend_from_slice(&change.micros.to_le_bytes());
        self.spot(change.spot);
    }
}

/// Writes the file, in place of the one there was; returns its length in bytes. `goes_on` is asked now and then whether
/// it is still wanted.
pub(super) fn write(
    folder: &dyn Folder,
    about: &About,
    index: &RwLock<Index>,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<u64> {
    let written = write_beside(folder, about, index, goes_on);
    if written.is_err() {
        // Room for others, if the disk is full. Not to be heard of when it was not made.
        let _ = folder.remove(UNFINISHED);
    }
    let length = written?;
    folder.rename(UNFINISHED, NAME)?;
    folder.sync()?;
    Ok(length)
}

fn write_beside(
    folder: &dyn Folder,
    about: &About,
    index: &RwLock<Index>,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<u64> {
    let file = folder.create(UNFINISHED)?;
    let mut out = Output {
        file,
        buffer: Vec::with_capacity(BUFFER + BUFFER / 4),
        at: 0,
        sum: Xxh3::new(),
        types: HashMap::new(),
    };
    out.buffer.extend_from_slice(MAGIC);
    op::bytes(&mut out.buffer, FORMAT.as_bytes());
    op::bytes(&mut out.buffer, about.key_check.as_deref().unwrap_or_default());
    out.buffer.extend_from_slice(&about.line.to_le_bytes());
    out.buffer.extend_from_slice(&about.first.to_le_bytes());
    rows(&mut out, index, goes_on)?;
    changes(&mut out, index, goes_on)?;
    {
        let index = index.read();
        let mut small = Vec::new();
        index.small.write(&mut small);
        out.buffer.push(SMALL);
        op::bytes(&mut out.buffer, &small);
        out.buffer.push(END);
        out.buffer.extend_from_slice(&op::counters(index.counters));
    }
    out.write_out()?;
    let sum = out.sum.digest();
    out.file.write_at(out.at, &sum.to_le_bytes())?;
    out.file.sync()?;
    Ok(out.at + SUM)
}

fn wanted(goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    match goes_on() {
        true => Ok(()),
        false => Err(io::ErrorKind::Interrupted.into()),
    }
}

fn rows(out: &mut Output, index: &RwLock<Index>, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    use std::ops::Bound::{Included, Unbounded};
    let mut after: Option<(Arc<str>, Box<str>)> = None;
    loop {
        wanted(goes_on)?;
        let mut last = None;
        let mut left = CHUNK;
        {
            let index = index.read();
            let first = after.as_ref().map_or(Unbounded, |(name, _)| Included(&**name));
            for (name, of_type) in index.live.range::<str, _>((first, Unbounded)) {
                let id = after.as_ref().filter(|(after, _)| after == name);
                let from = id.map(|(_, id)| &**id);
                let number = out.number_of(name);
                for (id, entry) in of_type.rows.after(from).take(left) {
                    out.row(number, id, entry);
                    left -= 1;
                    last = Some((name, id));
                }
                if left == 0 {
                    break;
                }
            }
            after = last.map(|(name, id)| (Arc::clone(name), id.into()));
        }
        out.write_out_if_full()?;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn changes(out: &mut Output, index: &RwLock<Index>, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut after = 0;
    loop {
        wanted(goes_on)?;
        let before = after;
        for change in index.read().changes_after(after).take(CHUNK) {
            out.change(change);
            after = change.version;
        }
        out.write_out_if_full()?;
        if after == before {
            return Ok(());
        }
    }
}
