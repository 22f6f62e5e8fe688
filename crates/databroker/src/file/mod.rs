//! Records in one file: durable before a write is answered, sealed, for one process at a time.
//!
//! `open` makes or opens the file, `disk` has it open, `tables` says what is in it, `writer` is the one thread that
//! writes.

#[cfg(test)]
mod crashes;
mod disk;
mod open;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Options, Page, Query, Record, Versions};
use tokio::sync::watch;

use self::disk::Disk;
pub use self::open::OpenError;
use self::tables::Snapshot;
use self::writer::Writer;
use crate::query;
use crate::seal::Sealer;
use crate::store::{Changes, Counters, Inventory, Records, Registered, Store, Write, Written};

/// A [`Store`] in a file. Survives the death of the process at any moment: what was answered is there.
pub struct FileStore {
    // The order matters: the writer finishes first, the file is closed, then the lock is given back.
    writer: Writer,
    disk: Arc<Disk>,
    sealer: Arc<Sealer>,
    _lock: Option<File>,
}

impl FileStore {
    /// Opens the store in `folder`, or makes it: the folder for its owner only (an existing one is left as
    /// it is), files readable by their owner only. With keys all record contents are sealed
    /// (XChaCha20-Poly1305) by the first and opened by any of them; types, ids and times are not.
    pub fn open(folder: &Path, keys: &[[u8; 32]]) -> Result<Self, OpenError> {
        let sealer = Arc::new(Sealer::new(keys));
        let (lock, path) = open::folder(folder)?;
        let disk = Disk::open(folder, &path, Arc::clone(&sealer))?;
        Self::over(disk, sealer, Some(lock), folder)
    }

    fn over(disk: Disk, sealer: Arc<Sealer>, lock: Option<File>, folder: &Path) -> Result<Self, OpenError> {
        let disk = Arc::new(disk);
        let writer = Writer::start(disk.clone(), sealer.clone()).map_err(|source| OpenError::Io {
            path: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            writer,
            disk,
            sealer,
            _lock: lock,
        })
    }

    /// Whether every checksum of the file holds. Nobody else is answered meanwhile.
    pub fn check(&self) -> Result<bool, Error> {
        self.disk.check()
    }

    /// How many commits there were since it was opened; each is one flush of the disk.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    fn snapshot(&self) -> Result<Snapshot, Error> {
        let transaction = self.disk.begin_read()?;
        Snapshot::new(&transaction, self.sealer.clone())
    }
}

impl FileStore {
    /// Answers from one moment in time.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Snapshot) -> Result<T, Error>,
    ) -> BoxFuture<'_, Result<T, Error>> {
        ready(self.snapshot().and_then(read)).boxed()
    }
}

impl Store for FileStore {
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>> {
        self.read(|snapshot| snapshot.counters())
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        let found = self
            .disk
            .begin_read()
            .and_then(|transaction| tables::get(&transaction, &self.sealer, record_type, id));
        ready(found).boxed()
    }

    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>> {
        query::scan(self, query).boxed()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        self.read(|snapshot| snapshot.types())
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        self.read(|snapshot| snapshot.options(record_type))
    }

    fn services(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Registered>, Error>> {
        self.read(move |snapshot| snapshot.services(now))
    }

    fn watch_services(&self) -> watch::Receiver<()> {
        self.writer.watch_services()
    }

    fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>> {
        self.read(|snapshot| {
            Ok((
                snapshot.counters()?.versions(),
                snapshot.into_records(record_type)?,
            ))
        })
    }

    fn changes<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Changes, Error>> {
        self.read(|snapshot| snapshot.changes(record_type, from, limit))
    }

    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
        self.writer.write(write, now).boxed()
    }

    fn watch(&self) -> watch::Receiver<()> {
        self.writer.watch()
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Inventory, Error>> {
        self.read(|snapshot| snapshot.inspect())
    }
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("file store: {error}"))
}
