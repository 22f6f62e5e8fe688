//! The one thread that writes. Writes that wait while another is made durable share the next commit, so
//! that many small writes cost few flushes of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use parking_lot::RwLock;
use pomerium_api::databroker::Error;
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};

use super::index::{Index, Segment};
use super::journal::{self, Journal};
use super::keeper::Poke;
use super::staged::{Moved, Staged};
use super::{read, unavailable};
use crate::apply::apply;
use crate::seal::Sealer;
use crate::store::{Copy, Counters, Write, Written};

/// Writes that may wait; more wait for a place.
const QUEUE: usize = 1024;
/// Writes that share one commit at most.
const BATCH: usize = 256;
/// A commit of more bytes takes no other write along.
const ENOUGH: usize = 4 * 1024 * 1024;

/// What the thread is to do.
pub(super) enum Job {
    /// A write.
    Write {
        write: Write,
        now: Timestamp,
        reply: oneshot::Sender<Result<Written, Error>>,
    },
    /// Records to another place.
    Move {
        all: Vec<Moved>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// A segment to itself, so that everything before can be written into the index.
    Begin {
        reply: oneshot::Sender<Result<u32, Error>>,
    },
}

/// A write in a commit.
struct Pending {
    write: Write,
    now: Timestamp,
    reply: oneshot::Sender<Result<Written, Error>>,
}

/// What writes come to, before it is durable.
struct Commit {
    written: Vec<Written>,
    frame: Vec<u8>,
    counters: Counters,
}

/// A handle to the thread; the thread ends when this is dropped, after the writes it has accepted.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    changed: watch::Receiver<()>,
    services_changed: watch::Receiver<()>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(
        index: Arc<RwLock<Index>>,
        sealer: Arc<Sealer>,
        journal: Journal,
        poke: Poke,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (changes, changed) = watch::channel(());
        let (service_changes, services_changed) = watch::channel(());
        let commits = Arc::new(AtomicU64::new(0));
        let desk = Desk {
            index,
            sealer,
            journal,
            poke,
            changes,
            service_changes,
            commits: commits.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("databroker-file".into())
            .spawn(move || desk.work(queue))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            changed,
            services_changed,
            commits,
        })
    }

    pub(super) async fn write(&self, write: Write, now: Timestamp) -> Result<Written, Error> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(Job::Write { write, now, reply })
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// The way to the thread, as long as this is there.
    pub(super) fn jobs(&self) -> Option<mpsc::WeakSender<Job>> {
        self.jobs.as_ref().map(mpsc::Sender::downgrade)
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.clone()
    }

    pub(super) fn watch_services(&self) -> watch::Receiver<()> {
        self.services_changed.clone()
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the databroker file panicked");
        }
    }
}

pub(super) fn stopped() -> Error {
    unavailable("its writer has stopped")
}

/// Bytes of records in a write, about.
fn size(write: &Write) -> usize {
    let records = |records: &[_]| records.iter().map(Message::encoded_len).sum();
    match write {
        Write::Put(all) | Write::Patch { records: all, .. } => records(all),
        Write::Replace(record) => record.encoded_len(),
        Write::Copy(Copy::Part { records: all, .. } | Copy::Changes(all)) => records(all),
        _ => 0,
    }
}

/// What the thread works with.
struct Desk {
    index: Arc<RwLock<Index>>,
    sealer: Arc<Sealer>,
    journal: Journal,
    poke: Poke,
    changes: watch::Sender<()>,
    service_changes: watch::Sender<()>,
    commits: Arc<AtomicU64>,
}

impl Desk {
    fn work(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| queue.blocking_recv()) {
            let mut writes = Vec::new();
            let mut bytes = 0;
            let mut job = Some(first);
            // What is no write ends the commit, and comes after it.
            while let Some(Job::Write { write, now, reply }) = job {
                bytes += size(&write);
                writes.push(Pending { write, now, reply });
                let more = writes.len() < BATCH && bytes < ENOUGH;
                job = if more { queue.try_recv().ok() } else { None };
            }
            self.carry_out(writes);
            match job {
                Some(Job::Move { all, reply }) => {
                    let _ = reply.send(self.relocate(&all));
                }
                Some(Job::Begin { reply }) => {
                    let _ = reply.send(self.begin());
                }
                other => next = other,
            }
        }
    }

    /// All in one commit; when one of them cannot be made, each in its own, so that it does not spoil the others.
    fn carry_out(&mut self, writes: Vec<Pending>) {
        let writes: Vec<Pending> = writes
            .into_iter()
            .filter_map(|write| self.unless_idle(write))
            .collect();
        if writes.is_empty() {
            return;
        }
        match self.stage(&writes) {
            Ok(commit) => match self.commit(commit.frame, commit.counters) {
                Ok(()) => self.answer(writes, commit.written.into_iter().map(Ok)),
                // Whether they are on the disk nobody knows: they must not be made a second time.
                Err(error) => {
                    let answers = vec![Err(error); writes.len()];
                    self.answer(writes, answers.into_iter());
                }
            },
            Err(error) if writes.len() == 1 => self.answer(writes, [Err(error)].into_iter()),
            Err(_) => writes.into_iter().for_each(|write| self.carry_out(vec![write])),
        }
    }

    /// Answers a trim that has nothing to do without touching the disk; gives back any other write.
    fn unless_idle(&self, pending: Pending) -> Option<Pending> {
        match pending.write {
            Write::Trim(before) if !read::has_older(&self.index, before) => {
                let _ = pending.reply.send(Ok(Written::Trimmed(0)));
                None
            }
            _ => Some(pending),
        }
    }

    fn answer(&self, writes: Vec<Pending>, answers: impl Iterator<Item = Result<Written, Error>>) {
        self.changes.send_replace(());
        if writes
            .iter()
            .any(|pending| matches!(pending.write, Write::Report { .. }))
        {
            self.service_changes.send_replace(());
        }
        for (pending, answer) in writes.into_iter().zip(answers) {
            if matches!(pending.write, Write::Clear) || matches!(answer, Ok(Written::Trimmed(1..))) {
                self.poke.poke();
            }
            // Whoever asked may have gone; the write stands.
            let _ = pending.reply.send(answer);
        }
    }

    fn stage(&self, writes: &[Pending]) -> Result<Commit, Error> {
        let index = self.index.read();
        let mut counters = index.counters;
        let mut staged = Staged::new(&index, &self.sealer);
        let written = writes
            .iter()
            .map(|pending| apply(&mut staged, &mut counters, &pending.write, pending.now))
            .collect::<Result<_, _>>()?;
        Ok(Commit {
            written,
            frame: staged.into_frame(),
            counters,
        })
    }

    /// Makes a frame durable, then visible.
    fn commit(&mut self, mut frame: Vec<u8>, counters: Counters) -> Result<(), Error> {
        if journal::is_blank(&frame) && self.index.read().counters == counters {
            return Ok(());
        }
        if let Some(begun) = self.journal.make_room().map_err(unavailable)? {
            self.note(begun);
            self.poke.poke();
        }
        let appended = self
            .journal
            .append(&mut frame, counters, true)
            .map_err(unavailable)?;
        let mut index = self.index.write();
        let done = index.carry_out(&frame[appended.contents], appended.segment, appended.at);
        if let Some(segment) = index.segments.get_mut(&appended.segment) {
            segment.end = appended.end;
        }
        drop(index);
        self.commits.fetch_add(1, Ordering::Relaxed);
        done.map_err(unavailable)
    }

    fn note(&self, begun: journal::Begun) {
        let segment = Segment {
            file: begun.file,
            live: 0,
            end: super::segment::HEAD,
        };
        self.index.write().segments.insert(begun.number, segment);
    }

    fn relocate(&mut self, all: &[Moved]) -> Result<(), Error> {
        let (frame, counters) = {
            let index = self.index.read();
            let mut staged = Staged::new(&index, &self.sealer);
            staged.relocate(all);
            (staged.into_frame(), index.counters)
        };
        self.commit(frame, counters)
    }

    fn begin(&mut self) -> Result<u32, Error> {
        let begun = self.journal.begin().map_err(unavailable)?;
        let number = begun.number;
        self.note(begun);
        Ok(number)
    }
}
