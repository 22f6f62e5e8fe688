//! A segment: a file of writes, one frame each, in the order they were made. A write counts once its frame was flushed,
//! and no frame is begun before: so only the last one can be torn.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::folder::{Folder, Handle};
use super::op::Pieces;

const MAGIC: &[u8; 8] = b"PMRSEG\x003";
/// Bytes before the first frame.
pub(super) const HEAD: u64 = 40;
/// Bytes of a frame before its contents.
pub(super) const FRAME_HEAD: usize = 16;
/// What a frame begins with.
const MARK: u32 = 0x4d52_4650;
/// Frames begin at a multiple of this.
const ALIGNED: usize = 8;
/// How much is read in one go when frames are looked for behind a damage.
const LOOK: usize = 1 << 20;

/// The name of a segment.
pub(super) fn name(number: u32) -> String {
    format!("databroker.{number:010}.records")
}

/// The number of the segment of this name.
pub(super) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("databroker.")?.strip_suffix(".records")?;
    (digits.len() == 10).then(|| digits.parse().ok())?
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The line of segments it belongs to.
    pub(super) line: u64,
    pub(super) number: u32,
    /// Where the segment before ends: what is behind was never acknowledged. 0 if there is none.
    pub(super) former_end: u64,
}

impl Head {
    fn bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.line.to_le_bytes());
        out.extend_from_slice(&u64::from(self.number).to_le_bytes());
        out.extend_from_slice(&self.former_end.to_le_bytes());
        out.extend_from_slice(&sum(&[&out]).to_le_bytes());
        out
    }

    /// Makes the file, durable with its name.
    pub(super) fn create(&self, folder: &dyn Folder) -> io::Result<Arc<dyn Handle>> {
        let file = folder.create(&name(self.number))?;
        file.write_at(0, &self.bytes())?;
        file.sync()?;
        folder.sync()?;
        Ok(file)
    }

    /// `None` when it is not one: the file was not finished, or is damaged.
    pub(super) fn read(file: &dyn Handle) -> io::Result<Option<Self>> {
        if file.length()? < HEAD {
            return Ok(None);
        }
        let mut bytes = [0; HEAD as usize];
        file.read_at(0, &mut bytes)?;
        let mut pieces = Pieces::new(&bytes[MAGIC.len()..]);
        let mut read = || {
            let head = Self {
                line: pieces.u64()?,
                number: u32::try_from(pieces.u64()?).ok()?,
                former_end: pieces.u64()?,
            };
            (head.bytes() == bytes).then_some(head)
        };
        Ok(read())
    }
}

fn sum(parts: &[&[u8]]) -> u64 {
    let mut sum = Xxh3::new();
    parts.iter().for_each(|part| sum.update(part));
    sum.digest()
}

/// The sum of a frame holds for its place alone.
fn frame_sum(head: &Head, at: u64, contents: &[u8]) -> u64 {
    let place = [head.line, u64::from(head.number), at, contents.len() as u64];
    let place: Vec<u8> = place.iter().flat_map(|number| number.to_le_bytes()).collect();
    sum(&[&place, contents])
}

/// Finishes a frame: `frame` is room for its head, then contents of less than 4 GB. It is to be written at `at`.
pub(super) fn finish(head: &Head, at: u64, frame: &mut Vec<u8>) {
    let contents = &frame[FRAME_HEAD..];
    let length = u32::try_from(contents.len()).unwrap_or(u32::MAX);
    let sum = frame_sum(head, at, contents);
    frame[..4].copy_from_slice(&MARK.to_le_bytes());
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&sum.to_le_bytes());
    frame.resize(frame.len().next_multiple_of(ALIGNED), 0);
}

/// A frame as read.
pub(super) struct Frame {
    pub(super) contents: Vec<u8>,
    /// Where the contents begin.
    pub(super) contents_at: u64,
    /// Where the next frame begins.
    pub(super) next: u64,
}

/// The frame at `at`, if there is a whole one.
pub(super) fn frame(file: &dyn Handle, head: &Head, at: u64, end: u64) -> io::Result<Option<Frame>> {
    let contents_at = at + FRAME_HEAD as u64;
    if contents_at > end {
        return Ok(None);
    }
    let mut start = [0; FRAME_HEAD];
    file.read_at(at, &mut start)?;
    let mut pieces = Pieces::new(&start);
    let (Some(mark), Some(length), Some(wanted)) = (pieces.u32(), pieces.u32(), pieces.u64()) else {
        return Ok(None);
    };
    if mark != MARK || contents_at + u64::from(length) > end {
        return Ok(None);
    }
    let mut contents = vec![0; length as usize];
    file.read_at(contents_at, &mut contents)?;
    Ok((frame_sum(head, at, &contents) == wanted).then(|| Frame {
        next: contents_at + u64::from(length).next_multiple_of(ALIGNED as u64),
        contents,
        contents_at,
    }))
}

/// Where the next whole frame behind `at` is.
pub(super) fn frame_behind(file: &dyn Handle, head: &Head, at: u64, end: u64) -> io::Result<Option<u64>> {
    let mut from = at + ALIGNED as u64;
    let mut bytes = vec![0; LOOK];
    while from < end {
        let length = bytes.len().min(usize::try_from(end - from).unwrap_or(LOOK));
        file.read_at(from, &mut bytes[..length])?;
        for (number, word) in bytes[..length].chunks_exact(ALIGNED).enumerate() {
            let at = from + (number * ALIGNED) as u64;
            if word.starts_with(&MARK.to_le_bytes()) && frame(file, head, at, end)?.is_some() {
                return Ok(Some(at));
            }
        }
        from += LOOK as u64;
    }
    Ok(None)
}

/// Whether the frames are whole: what does not fit is behind them all.
pub(super) fn is_whole(file: &dyn Handle, head: &Head, end: u64) -> io::Result<bool> {
    let mut at = HEAD;
    while at < end {
        match frame(file, head, at, end)? {
            Some(frame) => at = frame.next,
            None => return Ok(frame_behind(file, head, at, end)?.is_none()),
        }
    }
    Ok(true)
}
