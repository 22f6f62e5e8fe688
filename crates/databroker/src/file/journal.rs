//! The segment that is written to. What was appended is durable; after a failure nothing more goes into that segment, since
//! nobody knows what of the failed frame is on the disk: the next one says where it ends.

use std::io;
use std::sync::Arc;

use super::folder::{Folder, Handle};
use super::op;
use super::segment::{self, FRAME_HEAD, HEAD, Head};
use crate::store::Counters;

/// A segment of this length is followed by another one.
pub(super) const SEGMENT: u64 = 64 * 1024 * 1024;
/// The room that is made ahead for small frames: flushing a frame into it does not change the length of the file, which
/// is less work for the file system.
const AHEAD: u64 = 256 * 1024;
/// A longer frame makes room for itself alone.
const SMALL: usize = 64 * 1024;
/// Longer frames are refused.
const LONGEST: usize = 3 * 1024 * 1024 * 1024;

/// A frame to be: room for its head and the counters, then operations.
pub(super) fn blank() -> Vec<u8> {
    vec![0; FRAME_HEAD + op::COUNTERS]
}

/// Whether there is nothing in it.
pub(super) fn is_blank(frame: &[u8]) -> bool {
    frame.len() == FRAME_HEAD + op::COUNTERS
}

/// A segment that was begun.
pub(super) struct Begun {
    pub(super) number: u32,
    pub(super) file: Arc<dyn Handle>,
}

/// Where a frame went.
pub(super) struct Appended {
    /// The contents of the frame.
    pub(super) contents: std::ops::Range<usize>,
    pub(super) segment: u32,
    /// Where the contents begin in the segment, in bytes.
    pub(super) at: u64,
    /// Where the segment ends now.
    pub(super) end: u64,
}

/// Writes frames, one after the other.
pub(super) struct Journal {
    folder: Arc<dyn Folder>,
    head: Head,
    /// `None` once a write failed, or before the first.
    file: Option<Arc<dyn Handle>>,
    /// Where the next frame goes.
    end: u64,
    /// Up to where the file was written, at least.
    written: u64,
    /// Whether the segment of this number is still to be made.
    unmade: bool,
}

impl Journal {
    /// A new line of segments, the first of which has this number.
    pub(super) fn new(folder: Arc<dyn Folder>, line: u64, number: u32) -> Self {
        Self {
            folder,
            head: Head {
                line,
                number,
                former_end: 0,
            },
            file: None,
            end: HEAD,
            written: HEAD,
            unmade: true,
        }
    }

    /// Goes on with a segment that is there, at `end`.
    pub(super) fn go_on(folder: Arc<dyn Folder>, head: Head, file: Arc<dyn Handle>, end: u64) -> Self {
        Self {
            folder,
            head,
            file: Some(file),
            end,
            written: end,
            unmade: false,
        }
    }

    /// The line of segments.
    pub(super) fn line(&self) -> u64 {
        self.head.line
    }

    /// The segment that the next frame goes into, if that has to be made first.
    pub(super) fn make_room(&mut self) -> io::Result<Option<Begun>> {
        if self.file.is_some() && self.end < SEGMENT {
            return Ok(None);
        }
        self.begin().map(Some)
    }

    /// Begins the next segment; nothing goes into the one before from here on.
    pub(super) fn begin(&mut self) -> io::Result<Begun> {
        if let Some(file) = self.file.take() {
            file.sync()?;
        }
        if !self.unmade {
            let next = self.head.number.checked_add(1);
            self.head = Head {
                number: next.ok_or_else(|| io::Error::other("there is no number for another segment"))?,
                former_end: self.end,
                ..self.head
            };
            self.unmade = true;
        }
        let file = self.head.create(&*self.folder)?;
        (self.end, self.written) = (HEAD, HEAD);
        self.unmade = false;
        self.file = Some(Arc::clone(&file));
        Ok(Begun {
            number: self.head.number,
            file,
        })
    }

    /// Appends a frame that began as [`blank`]. It is durable then, if that is wanted: otherwise when the next segment is
    /// begun.
    pub(super) fn append(
        &mut self,
        frame: &mut Vec<u8>,
        counters: Counters,
        durable: bool,
    ) -> io::Result<Appended> {
        if frame.len() > LONGEST {
            let why = format!("a write of {} bytes; {LONGEST} are allowed", frame.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        frame[FRAME_HEAD..FRAME_HEAD + op::COUNTERS].copy_from_slice(&op::counters(counters));
        let contents = FRAME_HEAD..frame.len();
        segment::finish(&self.head, self.end, frame);
        let (at, end) = (self.end, self.end + frame.len() as u64);
        if end > self.written && frame.len() < SMALL {
            let until = end.next_multiple_of(AHEAD);
            frame.resize(frame.len() + usize::try_from(until - end).unwrap_or_default(), 0);
        }
        let file = self
            .file
            .as_ref()
            .ok_or_else(|| io::Error::other("no segment was begun"))?;
        let done = file.write_at(at, frame);
        if let Err(error) = done.and_then(|()| if durable { file.sync() } else { Ok(()) }) {
            self.file = None;
            // One without a frame is made anew.
            self.unmade = self.end == HEAD;
            return Err(error);
        }
        self.written = self.written.max(at + frame.len() as u64);
        self.end = end;
        Ok(Appended {
            contents,
            segment: self.head.number,
            at: at + FRAME_HEAD as u64,
            end,
        })
    }
}
