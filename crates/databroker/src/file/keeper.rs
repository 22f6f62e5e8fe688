//! The thread that keeps the folder small and the next start short: it writes the index to its file when much was written
//! since, moves what is left in segments of which most is dead, and takes away those that nothing refers to.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::RwLock;
use pomerium_api::databroker::Error;
use tokio::sync::{mpsc, oneshot};

use super::folder::Folder;
use super::image::{self, About};
use super::index::{Index, Segment, Spot};
use super::op::{self, COUNTERS, Op, Pieces};
use super::segment::{self, HEAD, Head};
use super::staged::Moved;
use super::unavailable;
use super::writer::{Job, stopped};

/// So many bytes of writes are carried out again at the next start, or twice the index if that is more.
const TAIL: u64 = 64 * 1024 * 1024;
/// Less that is dead is left.
const WORTH_IT: u64 = 4 * 1024 * 1024;
/// Bytes of records that are moved with one commit.
const PORTION: usize = 1024 * 1024;

/// Says that there may be something to do.
#[derive(Clone)]
pub(super) struct Poke(SyncSender<()>);

impl Poke {
    /// And where to wait for it.
    pub(super) fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Self(sender), receiver)
    }

    pub(super) fn poke(&self) {
        // Full: it was said already.
        let _ = self.0.try_send(());
    }
}

/// A handle to the thread, which ends when this is dropped.
pub(super) struct Keeper {
    poke: Poke,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(work: Work, poke: Poke, pokes: Receiver<()>) -> io::Result<Self> {
        let stop = Arc::clone(&work.stop);
        let thread = std::thread::Builder::new()
            .name("databroker-keep".into())
            .spawn(move || work.run(&pokes))?;
        // What the last process left.
        poke.poke();
        Ok(Self {
            poke,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.poke.poke();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the keeper of the databroker file panicked");
        }
    }
}

/// What the thread works with.
pub(super) struct Work {
    folder: Arc<dyn Folder>,
    index: Arc<RwLock<Index>>,
    jobs: Option<mpsc::WeakSender<Job>>,
    /// What the file of the index says.
    about: About,
    /// Its length in bytes.
    length: u64,
    stop: Arc<AtomicBool>,
}

impl Work {
    pub(super) fn new(
        folder: Arc<dyn Folder>,
        index: Arc<RwLock<Index>>,
        jobs: Option<mpsc::WeakSender<Job>>,
        about: About,
    ) -> Self {
        Self {
            folder,
            index,
            jobs,
            about,
            length: 0,
            stop: Arc::default(),
        }
    }

    fn run(mut self, pokes: &Receiver<()>) {
        self.length = self
            .folder
            .open(image::NAME)
            .and_then(|file| file.length())
            .unwrap_or_default();
        while pokes.recv().is_ok() && !self.stopped() {
            match self.tidy() {
                Err(error) if !self.stopped() => {
                    tracing::warn!(%error, "the databroker file cannot be tidied up; will try again");
                }
                _ => {}
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Does what there is to do.
    pub(super) fn tidy(&mut self) -> Result<(), Error> {
        for number in self.hollow() {
            if self.stopped() {
                return Ok(());
            }
            self.empty(number)?;
        }
        let tail = self.tail();
        let dead: u64 = self.dead().1;
        if tail >= TAIL.max(2 * self.length) || dead >= WORTH_IT.max(self.length) {
            self.write_index()?;
        }
        Ok(())
    }

    /// Bytes written since the index was.
    fn tail(&self) -> u64 {
        let index = self.index.read();
        let since = index.segments.range(self.about.first..);
        since.map(|(_, segment)| segment.end).sum()
    }

    /// Segments that are not written to any more, and that the change log does not refer to: it is in order of the
    /// segments, and nothing in it is moved.
    fn quiet(index: &Index) -> impl Iterator<Item = (u32, &Segment)> {
        let written = index.segments.last_key_value().map_or(0, |(number, _)| *number);
        let logged = index.log.front().map_or(written, |change| change.spot.segment);
        let quiet = index.segments.range(..written.min(logged));
        quiet.map(|(number, segment)| (*number, segment))
    }

    /// Quiet segments most of which is dead, but not all.
    fn hollow(&self) -> Vec<u32> {
        let index = self.index.read();
        Self::quiet(&index)
            .filter(|(_, segment)| segment.live > 0 && segment.live * 2 < segment.end)
            .map(|(number, _)| number)
            .collect()
    }

    /// Segments that nothing refers to, and how many bytes they have.
    fn dead(&self) -> (BTreeSet<u32>, u64) {
        let index = self.index.read();
        let dead = Self::quiet(&index).filter(|(_, segment)| segment.live == 0);
        dead.fold((BTreeSet::new(), 0), |(mut numbers, bytes), (number, segment)| {
            numbers.insert(number);
            (numbers, bytes + segment.end)
        })
    }

    /// Moves what is live in a segment to where is written now.
    fn empty(&self, number: u32) -> Result<(), Error> {
        let Some((file, end)) = ({
            let index = self.index.read();
            let segment = index.segments.get(&number);
            segment.map(|segment| (Arc::clone(&segment.file), segment.end))
        }) else {
            return Ok(());
        };
        let head = Head::read(&*file).map_err(unavailable)?;
        let head = head
            .ok_or_else(|| unavailable(format_args!("the start of {} is damaged", segment::name(number))))?;
        let mut at = HEAD;
        let mut portion = Vec::new();
        let mut bytes = 0;
        while let Some(frame) = segment::frame(&*file, &head, at, end).map_err(unavailable)? {
            if self.stopped() {
                return Ok(());
            }
            for moved in self.live_in(&frame.contents, number, frame.contents_at) {
                bytes += moved.value.len();
                portion.push(moved);
            }
            at = frame.next;
            if bytes >= PORTION {
                bytes = 0;
                self.relocate(std::mem::take(&mut portion))?;
            }
        }
        if !portion.is_empty() {
            self.relocate(portion)?;
        }
        tracing::debug!(segment = number, "a segment of the databroker file was emptied");
        Ok(())
    }

    /// The records of a frame that are live.
    fn live_in(&self, contents: &[u8], segment: u32, contents_at: u64) -> Vec<Moved> {
        let index = self.index.read();
        let mut pieces = Pieces::new(contents);
        let mut found = Vec::new();
        if pieces.array::<COUNTERS>().is_none() {
            return found;
        }
        while let Some(op) = pieces.op() {
            let Op::Blob(kind, blob) = op else { continue };
            let (Ok(at), Ok(length)) = (
                u32::try_from(contents_at + blob.place.start as u64),
                u32::try_from(blob.place.len()),
            ) else {
                continue;
            };
            let from = Spot { segment, at, length };
            let here = index.find(blob.record_type, blob.id);
            if kind != op::CHANGE && here.is_some_and(|here| here.spot == from) {
                found.push(Moved {
                    record_type: blob.record_type.to_owned(),
                    id: blob.id.to_owned(),
                    version: blob.version,
                    micros: blob.micros,
                    from,
                    value: blob.value.to_vec(),
                });
            }
        }
        found
    }

    fn relocate(&self, all: Vec<Moved>) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Move { all, reply }, answer)
    }

    fn ask<T>(&self, job: Job, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        let jobs = self.jobs.as_ref().and_then(mpsc::WeakSender::upgrade);
        let sent = jobs.ok_or_else(stopped)?.blocking_send(job);
        sent.map_err(|_| stopped())?;
        answer.blocking_recv().map_err(|_| stopped())?
    }

    /// Writes the index, then takes away what nothing refers to.
    pub(super) fn write_index(&mut self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let first = self.ask(Job::Begin { reply }, answer)?;
        // What is dead now is in no index that is written from here on.
        let (dead, bytes) = self.dead();
        let about = About {
            first,
            ..self.about.clone()
        };
        let goes_on = || !self.stopped();
        self.length = image::write(&*self.folder, &about, &self.index, &goes_on).map_err(unavailable)?;
        self.about = about;
        tracing::debug!(
            bytes = self.length,
            dead = bytes,
            "the index of the databroker file was written"
        );
        for number in dead {
            self.index.write().segments.remove(&number);
            self.folder.remove(&segment::name(number)).map_err(unavailable)?;
        }
        Ok(())
    }
}
