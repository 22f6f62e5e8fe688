//! The open file. After the disk has failed the library answers nothing any more; then it is opened anew, so that a disk
//! that was full for a while costs the writes of that while and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use pomerium_api::databroker::Error;
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTableMetadata,
    WriteTransaction,
};

use super::open::{self, OpenError};
use super::tables::{LIVE, LOG};
use super::unavailable;
use crate::seal::Sealer;

/// Memory for pages of the file; the records in use are held decoded by their readers.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// A smaller file is left as it is.
const WORTH_COMPACTING: u64 = 64 * 1024 * 1024;
/// More bytes per row than records usually need: most of the file is empty.
const HOLLOW: u64 = 8 * 1024;

/// How the database is opened; tests have disks of their own.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

pub(super) struct Disk {
    folder: PathBuf,
    opener: Opener,
    sealer: Arc<Sealer>,
    /// `None` while it cannot be opened.
    database: RwLock<Option<Database>>,
}

impl Disk {
    /// Opens the database at `path` in `folder`.
    pub(super) fn open(folder: &Path, path: &Path, sealer: Arc<Sealer>) -> Result<Self, OpenError> {
        let opener = {
            let path = path.to_owned();
            move || Builder::new().set_cache_size(CACHE_BYTES).create(&path)
        };
        let disk = Self::open_with(folder, Box::new(opener), sealer)?;
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        disk.compact_if_hollow(length);
        Ok(disk)
    }

    pub(super) fn open_with(folder: &Path, opener: Opener, sealer: Arc<Sealer>) -> Result<Self, OpenError> {
        let database = open::database(folder, &opener, &sealer)?;
        Ok(Self {
            folder: folder.to_owned(),
            opener,
            sealer,
            database: RwLock::new(Some(database)),
        })
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        self.with(|database| database.begin_read().map_err(unavailable))
    }

    /// Opens the file again first, if it could not be opened before. Only where writes are made.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Error> {
        if self.database.read().is_none() {
            self.reopen();
        }
        self.with(|database| database.begin_write().map_err(unavailable))
    }

    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        match &*self.database.read() {
            Some(database) => act(database),
            None => Err(unavailable(
                "the disk failed and the file cannot be opened again yet; the log says why",
            )),
        }
    }

    /// After a failed write: opens the file anew, if the disk failed and the library has given it up. Only where writes
    /// are made. Returns whether the disk failed.
    pub(super) fn mend(&self) -> bool {
        let works = self.with(|database| {
            let probe = database.begin_write().map_err(unavailable)?;
            probe.abort().map_err(unavailable)
        });
        if works.is_ok() {
            return false;
        }
        self.reopen();
        true
    }

    fn reopen(&self) {
        let mut place = self.database.write();
        // Whoever still reads gets an error from here on, never pages that are written anew.
        drop(place.take());
        match open::database(&self.folder, &self.opener, &self.sealer) {
            Ok(database) => {
                tracing::warn!(folder = %self.folder.display(), "the databroker file was opened anew after the disk failed");
                *place = Some(database);
            }
            Err(error) => {
                tracing::error!(%error, "the databroker file cannot be opened after the disk failed; the next write tries again");
            }
        }
    }

    /// Gives the room of deleted records back, if that is most of the file. What cannot be done is left.
    fn compact_if_hollow(&self, length: u64) {
        let hollow = |rows| length / (rows + 1) >= HOLLOW;
        if length >= WORTH_COMPACTING && self.rows().is_some_and(hollow) {
            self.compact(length);
        }
    }

    /// Nobody is answered meanwhile.
    pub(super) fn compact(&self, length: u64) {
        if let Some(database) = &mut *self.database.write() {
            match database.compact() {
                Ok(_) => tracing::info!(
                    bytes = length,
                    "the databroker file was mostly empty and is compacted"
                ),
                Err(error) => tracing::warn!(%error, "the databroker file cannot be compacted"),
            }
        }
    }

    fn rows(&self) -> Option<u64> {
        let transaction = self.begin_read().ok()?;
        let live = transaction.open_table(LIVE).ok()?.len().ok()?;
        let log = transaction.open_table(LOG).ok()?.len().ok()?;
        Some(live + log)
    }

    /// Whether every checksum of the file holds.
    pub(super) fn check(&self) -> Result<bool, Error> {
        match &mut *self.database.write() {
            Some(database) => database.check_integrity().map_err(unavailable),
            None => Err(unavailable("it is not open")),
        }
    }
}
