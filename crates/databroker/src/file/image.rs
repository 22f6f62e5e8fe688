//! The index as a file: where everything was at some moment, and from which segment on the operations are to be carried
//! out again. It is written while others write: what it has from after that segment began is carried out once more, which
//! changes nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use parking_lot::RwLock;
use xxhash_rust::xxh3::Xxh3;

use super::folder::{Folder, Handle, Sequence};
use super::index::{Change, Entry, Index, OfType, Spot};
use super::op::{self, COUNTERS, Pieces};
use crate::store::Counters;

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
    folder.rename(UNFINISHED, NAME)?;
    folder.sync()?;
    Ok(out.at + SUM)
}

fn wanted(goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    match goes_on() {
        true => Ok(()),
        false => Err(io::ErrorKind::Interrupted.into()),
    }
}

fn rows(out: &mut Output, index: &RwLock<Index>, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
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
                let from = id.map_or(Unbounded, |(_, id)| Excluded(&**id));
                let number = out.number_of(name);
                for (id, entry) in of_type.rows.range::<str, _>((from, Unbounded)).take(left) {
                    out.row(number, id, entry);
                    left -= 1;
                    last = Some((name, id));
                }
                if left == 0 {
                    break;
                }
            }
            after = last.map(|(name, id)| (Arc::clone(name), id.clone()));
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

/// Reads the file: what it says of the store, and the index without segments.
pub(super) fn read(file: &dyn Handle) -> Result<(About, Index), Unreadable> {
    let end = file.length()?.checked_sub(SUM).ok_or(Unreadable::Damaged("it is cut short"))?;
    let mut input = Input(BufReader::with_capacity(BUFFER, Sequence::new(file, 0, end)));
    if input.array()? != *MAGIC {
        return Err(Unreadable::Damaged("it is no index of a databroker"));
    }
    let format = input.text()?;
    if format != FORMAT {
        return Err(Unreadable::Format(format));
    }
    check_sum(file, end)?;
    let key_check = input.bytes()?;
    let about = About {
        key_check: (!key_check.is_empty()).then_some(key_check),
        line: u64::from_le_bytes(input.array()?),
        first: input.u32()?,
    };
    Ok((about, input.index()?))
}

fn check_sum(file: &dyn Handle, end: u64) -> Result<(), Unreadable> {
    let mut sum = Xxh3::new();
    let mut input = BufReader::with_capacity(BUFFER, Sequence::new(file, 0, end));
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        sum.update(bytes);
        let length = bytes.len();
        input.consume(length);
    }
    let mut wanted = [0; SUM as usize];
    file.read_at(end, &mut wanted)?;
    match sum.digest() == u64::from_le_bytes(wanted) {
        true => Ok(()),
        false => Err(Unreadable::Damaged("its checksum does not hold")),
    }
}

/// Whether the checksum of the file holds.
pub(super) fn is_whole(folder: &dyn Folder) -> io::Result<bool> {
    let file = folder.open(NAME)?;
    let Some(end) = file.length()?.checked_sub(SUM) else {
        return Ok(false);
    };
    match check_sum(&*file, end) {
        Ok(()) => Ok(true),
        Err(Unreadable::Io(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

struct Input<'h>(BufReader<Sequence<'h>>);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// No more room is made than there are bytes.
    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = u64::from(self.u32()?);
        let mut bytes = Vec::new();
        let read = self.0.by_ref().take(length).read_to_end(&mut bytes)?;
        match read as u64 == length {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        String::from_utf8(self.bytes()?).map_err(|_| Unreadable::Damaged(op::GARBLED))
    }

    fn spot(&mut self) -> io::Result<Spot> {
        Ok(Spot {
            segment: self.u32()?,
            at: self.u32()?,
            length: self.u32()?,
        })
    }

    fn counters(&mut self) -> Result<Counters, Unreadable> {
        let bytes: [u8; COUNTERS] = self.array()?;
        Pieces::new(&bytes).counters().ok_or(Unreadable::Damaged(op::GARBLED))
    }

    fn index(&mut self) -> Result<Index, Unreadable> {
        let garbled = || Unreadable::Damaged(op::GARBLED);
        let mut types: Vec<Arc<str>> = Vec::new();
        let mut rows: BTreeMap<u32, Vec<(Box<str>, Entry)>> = BTreeMap::new();
        let mut index = Index::new(Counters::fresh());
        let mut log = VecDeque::new();
        loop {
            match self.array()? {
                [TYPE] => types.push(self.text()?.into()),
                [ROW] => {
                    let record_type = self.u32()?;
                    let version = self.u64()?;
                    let spot = self.spot()?;
                    let id = self.text()?.into_boxed_str();
                    rows.entry(record_type).or_default().push((id, Entry { version, spot }));
                }
                [CHANGE] => {
                    let record_type = usize::try_from(self.u32()?).map_err(|_| garbled())?;
                    log.push_back(Change {
                        record_type: Arc::clone(types.get(record_type).ok_or_else(garbled)?),
                        version: self.u64()?,
                        micros: i64::from_le_bytes(self.array()?),
                        spot: self.spot()?,
                    });
                }
                [SMALL] => index.carry_out_small(&self.bytes()?).map_err(Unreadable::Damaged)?,
                [END] => break,
                _ => return Err(garbled()),
            }
        }
        index.counters = self.counters()?;
        for (number, rows) in rows {
            let name = types.get(number as usize).ok_or_else(garbled)?;
            // In order already: the tree is made in one piece.
            let rows = rows.into_iter().collect();
            index.live.insert(Arc::clone(name), OfType::new(rows));
        }
        index.log = log;
        Ok(index)
    }
}
