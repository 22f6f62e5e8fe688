//! Records in files of one folder: durable before a write is answered, sealed, for one process at a time.
//!
//! Every write is a frame that is appended to a segment (`segment`, `journal`) and flushed; nothing is ever written in
//! place. `index` (with `rows` and `small`) knows where everything is, and is carried forward by the operations of the frames (`op`). `staged` is a
//! commit that is being made, `writer` the one thread that makes them, `read` answers questions. `keeper` writes the index to
//! its file (`image`) and takes away dead segments. `open` and `recover` begin, `rewrite` seals with another key, `former` reads
//! files of former versions, `folder` is the way to the disk.

#[cfg(test)]
mod crash_disk;
#[cfg(test)]
mod crashes;
mod folder;
mod former;
#[cfg(test)]
mod garbled;
mod image;
mod index;
mod journal;
mod keeper;
mod op;
mod open;
mod read;
mod recover;
mod rewrite;
mod rows;
mod segment;
mod small;
mod staged;
#[cfg(test)]
pub(crate) mod tests;
mod touched;
#[cfg(test)]
mod upgrades;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;
use parking_lot::RwLock;
use pomerium_api::databroker::{Error, Options, Page, Query, Record, Versions};
use tokio::sync::watch;

use self::folder::Folder;
use self::index::Index;
use self::keeper::{Keeper, Poke, Work};
pub use self::open::OpenError;
use self::recover::Found;
use self::segment::Head;
use self::writer::Writer;
use crate::query;
use crate::seal::Sealer;
use crate::store::{Changes, Counters, Inventory, Key, Records, Registered, Store, Write, Written};

/// A [`Store`] in a folder. Survives the death of the process at any moment: what was answered is there.
pub struct FileStore {
    // The order matters: the keeper ends, the writer finishes, then the lock is given back.
    keeper: Option<Keeper>,
    writer: Writer,
    index: Arc<RwLock<Index>>,
    sealer: Arc<Sealer>,
    folder: Arc<dyn Folder>,
    _lock: Option<File>,
}

impl FileStore {
    /// Opens the store in `folder`, or makes it: the folder for its owner only (an existing one is left as
    /// it is), files readable by their owner only. With keys all record contents are sealed
    /// (XChaCha20-Poly1305) by the first and opened by any of them; types, ids and times are not.
    ///
    /// # Errors
    /// [`OpenError`]; the files are as they were.
    pub fn open(folder: &Path, keys: &[[u8; 32]]) -> Result<Self, OpenError> {
        let sealer = Arc::new(Sealer::new(keys));
        let lock = open::lock(folder)?;
        let (files, found) = open::at(folder, &sealer)?;
        Self::over(files, found, sealer, Some(lock), folder)
    }

    fn over(
        folder: Arc<dyn Folder>,
        found: Found,
        sealer: Arc<Sealer>,
        lock: Option<File>,
        path: &Path,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let index = Arc::new(RwLock::new(found.index));
        let (poke, pokes) = Poke::new();
        let writer = Writer::start(
            Arc::clone(&index),
            Arc::clone(&sealer),
            found.journal,
            poke.clone(),
        );
        let writer = writer.map_err(failed)?;
        let work = Work::new(
            Arc::clone(&folder),
            Arc::clone(&index),
            writer.jobs(),
            found.about,
        );
        Ok(Self {
            keeper: Some(Keeper::start(work, poke, pokes).map_err(failed)?),
            writer,
            index,
            sealer,
            folder,
            _lock: lock,
        })
    }

    /// Whether there is a store in `folder`, of this version or a former one.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        open::is_in(folder)
    }

    /// Whether every checksum of the files holds.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when they cannot be read.
    pub fn check(&self) -> Result<bool, Error> {
        if !image::is_whole(&*self.folder).map_err(unavailable)? {
            return Ok(false);
        }
        let segments: Vec<_> = {
            let index = self.index.read();
            let all = index.segments.values();
            all.map(|segment| (Arc::clone(&segment.file), segment.end))
                .collect()
        };
        for (file, end) in segments {
            let Some(head) = Head::read(&*file).map_err(unavailable)? else {
                return Ok(false);
            };
            if !segment::is_whole(&*file, &head, end).map_err(unavailable)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many commits there were since it was opened; each is one flush of the disk.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// Answers from one moment in time.
    fn read<T: Send + 'static>(&self, read: impl FnOnce(&Index) -> T) -> BoxFuture<'_, Result<T, Error>> {
        ready(Ok(read(&self.index.read()))).boxed()
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        drop(self.keeper.take());
    }
}

impl Store for FileStore {
    fn counters(&self) -> BoxFuture<'_, Result<Counters, Error>> {
        self.read(|index| index.counters)
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, Error>> {
        ready(read::get(&self.index, &self.sealer, record_type, id)).boxed()
    }

    fn select<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, Error>> {
        query::scan(self, query).boxed()
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        self.read(|index| index.live.keys().map(ToString::to_string).collect())
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        self.read(|index| index.small.options.get(record_type).cloned())
    }

    fn all_options(&self) -> BoxFuture<'_, Result<BTreeMap<String, Options>, Error>> {
        self.read(|index| index.small.options.clone())
    }

    fn services(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Registered>, Error>> {
        self.read(|index| index.small.registered(now))
    }

    fn watch_services(&self) -> watch::Receiver<()> {
        self.writer.watch_services()
    }

    fn latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<(Versions, Records), Error>> {
        let versions = self.index.read().counters.versions();
        let records = read::latest(Arc::clone(&self.index), Arc::clone(&self.sealer), record_type);
        ready(Ok((versions, records))).boxed()
    }

    fn changes<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Changes, Error>> {
        ready(read::changes(&self.index, &self.sealer, record_type, from, limit)).boxed()
    }

    fn write(&self, write: Write, now: Timestamp) -> BoxFuture<'_, Result<Written, Error>> {
        self.writer.write(write, now).boxed()
    }

    fn watch(&self) -> watch::Receiver<()> {
        self.writer.watch()
    }

    fn unreadable(&self) -> BoxFuture<'_, Vec<Key>> {
        self.sealer.unreadable(self).boxed()
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Inventory, Error>> {
        ready(read::inspect(&self.index, &self.sealer)).boxed()
    }
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("file store: {error}"))
}
