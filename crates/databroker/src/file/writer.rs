//! The one thread that writes. Writes that wait while another is made durable share the next commit, so
//! that many small writes cost few flushes of the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use pomerium_api::databroker::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::Disk;
use super::tables::{OpenTables, Snapshot, read_counters, write_counters};
use super::unavailable;
use crate::apply::apply;
use crate::seal::Sealer;
use crate::store::{Write, Written};

/// Writes that may wait; more wait for a place.
const QUEUE: usize = 1024;
/// Writes that share one commit at most.
const BATCH: usize = 256;

struct Job {
    write: Write,
    now: Timestamp,
    reply: oneshot::Sender<Result<Written, Error>>,
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
    pub(super) fn start(disk: Arc<Disk>, sealer: Arc<Sealer>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (changes, changed) = watch::channel(());
        let (service_changes, services_changed) = watch::channel(());
        let commits = Arc::new(AtomicU64::new(0));
        let desk = Desk {
            disk,
            sealer,
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
        jobs.send(Job { write, now, reply })
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
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

fn stopped() -> Error {
    unavailable("its writer has stopped")
}

/// What the thread works with.
struct Desk {
    disk: Arc<Disk>,
    sealer: Arc<Sealer>,
    changes: watch::Sender<()>,
    service_changes: watch::Sender<()>,
    commits: Arc<AtomicU64>,
}

impl Desk {
    fn work(&self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            jobs.push(first);
            while jobs.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                jobs.push(next);
            }
            self.carry_out(std::mem::take(&mut jobs));
        }
    }

    /// All in one commit; when that fails, each in its own, so that one does not spoil the others.
    fn carry_out(&self, jobs: Vec<Job>) {
        let jobs: Vec<Job> = jobs.into_iter().filter_map(|job| self.unless_idle(job)).collect();
        if jobs.is_empty() {
            return;
        }
        match self.commit(&jobs) {
            Ok(written) => self.answer(jobs, written.into_iter().map(Ok)),
            // Whether they are on the disk nobody knows: they must not be made a second time.
            Err(error) if self.disk.mend() => {
                let answers = vec![Err(error); jobs.len()];
                self.answer(jobs, answers.into_iter());
            }
            Err(error) if jobs.len() == 1 => self.answer(jobs, [Err(error)].into_iter()),
            Err(_) => jobs.into_iter().for_each(|job| self.carry_out(vec![job])),
        }
    }

    /// Answers a trim that has nothing to do without touching the disk; gives back any other job.
    fn unless_idle(&self, job: Job) -> Option<Job> {
        let Write::Trim(before) = job.write else {
            return Some(job);
        };
        let snapshot = self.disk.begin_read();
        let snapshot = snapshot.and_then(|transaction| Snapshot::new(&transaction, self.sealer.clone()));
        match snapshot.and_then(|snapshot| snapshot.has_older(before)) {
            Ok(false) => {
                let _ = job.reply.send(Ok(Written::Trimmed(0)));
                None
            }
            _ => Some(job),
        }
    }

    fn answer(&self, jobs: Vec<Job>, answers: impl Iterator<Item = Result<Written, Error>>) {
        self.changes.send_replace(());
        if jobs.iter().any(|job| matches!(job.write, Write::Report { .. })) {
            self.service_changes.send_replace(());
        }
        for (job, answer) in jobs.into_iter().zip(answers) {
            // Whoever asked may have gone; the write stands.
            let _ = job.reply.send(answer);
        }
    }

    fn commit(&self, jobs: &[Job]) -> Result<Vec<Written>, Error> {
        let transaction = self.disk.begin_write()?;
        let mut tables = OpenTables::new(&transaction, &self.sealer)?;
        let mut counters = read_counters(&tables.numbers)?;
        let written = jobs
            .iter()
            .map(|job| apply(&mut tables, &mut counters, &job.write, job.now))
            .collect::<Result<Vec<_>, _>>()?;
        write_counters(&mut tables.numbers, counters).map_err(unavailable)?;
        drop(tables);
        transaction.commit().map_err(unavailable)?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }
}
