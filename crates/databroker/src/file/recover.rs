//! From the files to the index: what it was when it was last written, then every write that came after. A torn end is
//! cut off; anything else that does not fit is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::folder::{Folder, Handle};
use super::image::{self, About, Unreadable};
use super::index::{Index, Segment};
use super::journal::Journal;
use super::open::OpenError;
use super::segment::{self, HEAD, Head};

/// What to do about damage.
const ADVICE: &str = "restore a backup into a new folder, or use the store of a standby; the program has left the files as \
                      they are";

/// A store as found.
pub(super) struct Found {
    pub(super) about: About,
    pub(super) index: Index,
    pub(super) journal: Journal,
}

/// A file of the store.
struct Open {
    head: Head,
    file: Arc<dyn Handle>,
}

/// Reads the store in `folder`, which is called `path`; `None` when there is none.
pub(super) fn recover(folder: &Arc<dyn Folder>, path: &Path) -> Result<Option<Found>, OpenError> {
    let recovery = Recovery { folder, path };
    let names = folder.names().map_err(|error| recovery.io(error))?;
    if !names.iter().any(|name| name == image::NAME) {
        return Ok(None);
    }
    recovery.recover(&names).map(Some)
}

struct Recovery<'f> {
    folder: &'f Arc<dyn Folder>,
    path: &'f Path,
}

impl Recovery<'_> {
    fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io {
            path: self.path.to_owned(),
            source,
        }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> OpenError {
        OpenError::Damaged {
            path: self.path.to_owned(),
            detail: format!("{what}; {ADVICE}"),
        }
    }

    fn recover(&self, names: &[String]) -> Result<Found, OpenError> {
        let (about, mut index) = self.image()?;
        let numbers: BTreeSet<u32> = names.iter().filter_map(|name| segment::number(name)).collect();
        let mut segments = BTreeMap::new();
        for number in numbers {
            let file = self
                .folder
                .open(&segment::name(number))
                .map_err(|error| self.io(error))?;
            let head = Head::read(&*file).map_err(|error| self.io(error))?;
            segments.insert(number, (file, head));
        }
        // Before anything is taken away: these may be the files of two stores, put together by a copy that went wrong.
        let first = segments.get(&about.first).map(|(_, head)| head);
        let fits = |head: &Option<Head>| head.is_none_or(|head| head.line == about.line);
        if !segments.is_empty() && !first.is_some_and(fits) {
            return Err(self.damaged(format_args!(
                "{} is missing, or belongs to another store",
                segment::name(about.first)
            )));
        }
        self.drop_leftovers(&about, &mut segments)?;
        let mut opened = BTreeMap::new();
        for (number, (file, head)) in segments {
            let head = head.filter(|head| head.number == number && head.line == about.line);
            let head = head.ok_or_else(|| {
                self.damaged(format_args!("the start of {} is damaged", segment::name(number)))
            })?;
            opened.insert(number, Open { head, file });
        }
        for (number, open) in &opened {
            // Where it ends is known at the end.
            let segment = Segment {
                file: Arc::clone(&open.file),
                live: 0,
                end: 0,
            };
            index.segments.insert(*number, segment);
        }
        let journal = self.replay(&about, &mut index, &opened)?;
        self.check_references(&index)?;
        index.count_live();
        Ok(Found {
            about,
            index,
            journal,
        })
    }

    fn image(&self) -> Result<(About, Index), OpenError> {
        let file = self.folder.open(image::NAME).map_err(|error| self.io(error))?;
        image::read(&*file).map_err(|error| match error {
            Unreadable::Io(error) => self.io(error),
            Unreadable::Format(found) => OpenError::Format {
                path: self.path.to_owned(),
                found,
            },
            Unreadable::Damaged(why) => self.damaged(format_args!("{}: {why}", image::NAME)),
        })
    }

    /// Takes away what was never part of the store: a segment that was not finished, and those of a line that did not
    /// become this store or was replaced by it.
    fn drop_leftovers(
        &self,
        about: &About,
        segments: &mut BTreeMap<u32, (Arc<dyn Handle>, Option<Head>)>,
    ) -> Result<(), OpenError> {
        let foreign: Vec<u32> = segments
            .iter()
            .filter(|(_, (_, head))| head.is_some_and(|head| head.line != about.line))
            .map(|(number, _)| *number)
            .collect();
        for number in foreign {
            segments.remove(&number);
            self.remove(number)?;
        }
        let Some((number, (file, None))) = segments.last_key_value() else {
            return Ok(());
        };
        let (number, length) = (*number, file.length().map_err(|error| self.io(error))?);
        // Nothing is written behind the head before that is flushed: if there is more, it is damaged.
        if length <= HEAD && number >= about.first {
            segments.remove(&number);
            self.remove(number)?;
        }
        Ok(())
    }

    fn remove(&self, number: u32) -> Result<(), OpenError> {
        self.folder
            .remove(&segment::name(number))
            .map_err(|error| self.io(error))
    }

    /// Carries out what was written since the index was; returns the journal, which goes on from there.
    fn replay(
        &self,
        about: &About,
        index: &mut Index,
        opened: &BTreeMap<u32, Open>,
    ) -> Result<Journal, OpenError> {
        let mut journal = Journal::new(Arc::clone(self.folder), about.line, about.first);
        for (number, open) in opened {
            let next = number.checked_add(1).and_then(|next| opened.get(&next));
            let length = open.file.length().map_err(|error| self.io(error))?;
            let end = match next {
                Some(next) => next.head.former_end,
                None => length,
            };
            if end > length {
                return Err(self.damaged(format_args!("{} is cut short", segment::name(*number))));
            }
            let end = if *number < about.first {
                end
            } else {
                let is_last = opened.last_key_value().is_some_and(|(last, _)| last == number);
                if next.is_none() && !is_last {
                    return Err(self.damaged(format_args!("{} is missing", segment::name(number + 1))));
                }
                let end = self.replay_one(index, open, end, is_last)?;
                if is_last {
                    // It was read, which does not say that it is durable.
                    open.file.sync().map_err(|error| self.io(error))?;
                    journal = Journal::go_on(Arc::clone(self.folder), open.head, Arc::clone(&open.file), end);
                }
                end
            };
            if let Some(segment) = index.segments.get_mut(number) {
                segment.end = end;
            }
        }
        let first = opened.range(about.first..).next();
        if first.is_some_and(|(number, _)| *number != about.first) {
            return Err(self.damaged(format_args!("{} is missing", segment::name(about.first))));
        }
        Ok(journal)
    }

    /// Returns where the segment ends.
    fn replay_one(&self, index: &mut Index, open: &Open, end: u64, is_last: bool) -> Result<u64, OpenError> {
        let Open { head, file } = open;
        let name = || segment::name(head.number);
        let mut at = HEAD;
        while at < end {
            let frame = segment::frame(&**file, head, at, end).map_err(|error| self.io(error))?;
            let Some(frame) = frame else {
                if !is_last {
                    return Err(self.damaged(format_args!("{} is damaged at byte {at}", name())));
                }
                let behind = segment::frame_behind(&**file, head, at, end).map_err(|error| self.io(error))?;
                if let Some(behind) = behind {
                    return Err(self.damaged(format_args!(
                        "{} is damaged at byte {at}, and whole writes follow from byte {behind} on",
                        name()
                    )));
                }
                return Ok(at);
            };
            index
                .carry_out(&frame.contents, head.number, frame.contents_at)
                .map_err(|why| self.damaged(format_args!("{} at byte {at}: {why}", name())))?;
            at = frame.next;
        }
        Ok(at)
    }

    /// Every record must be somewhere.
    fn check_references(&self, index: &Index) -> Result<(), OpenError> {
        let live = index.live.values().flat_map(|of_type| of_type.rows.entries());
        let mut last = None;
        for spot in live
            .map(|entry| entry.spot)
            .chain(index.log.iter().map(|change| change.spot))
        {
            if last != Some(spot.segment) && !index.segments.contains_key(&spot.segment) {
                return Err(self.damaged(format_args!("{} is missing", segment::name(spot.segment))));
            }
            last = Some(spot.segment);
        }
        Ok(())
    }
}
