//! Reading the file of the index. Nothing of it is believed before its checksum holds.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::{About, BUFFER, CHANGE, END, FORMAT, MAGIC, NAME, ROW, SMALL, SUM, TYPE, Unreadable};
use crate::file::folder::{Folder, Handle, Sequence};
use crate::file::index::{Change, Entry, Index, OfType, Spot};
use crate::file::op::{self, COUNTERS, Pieces};
use crate::store::Counters;

/// Reads the file: what it says of the store, and the index without segments.
pub(in crate::file) fn read(file: &dyn Handle) -> Result<(About, Index), Unreadable> {
    let end = file
        .length()?
        .checked_sub(SUM)
        .ok_or(Unreadable::Damaged("it is cut short"))?;
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
pub(in crate::file) fn is_whole(folder: &dyn Folder) -> io::Result<bool> {
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
        Pieces::new(&bytes)
            .counters()
            .ok_or(Unreadable::Damaged(op::GARBLED))
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
                    rows.entry(record_type)
                        .or_default()
                        .push((id, Entry { version, spot }));
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
                [SMALL] => index
                    .carry_out_small(&self.bytes()?)
                    .map_err(Unreadable::Damaged)?,
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
