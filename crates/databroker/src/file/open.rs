//! Opening and making the store: who may read it, who holds it, whether the key fits.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::folder::{self, Folder, open_private};
use super::former::{self, Former};
use super::image::{self, About};
use super::index::Index;
use super::journal::Journal;
use super::recover::{Found, recover};
use super::rewrite::{self, line};
use super::segment;
use crate::seal::{KeyFit, Sealer};
use crate::store::Counters;

const LOCK: &str = "databroker.lock";

/// Why a file store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file in it cannot be made, read or written.
    #[error("the databroker files at {} cannot be used: {source}", path.display())]
    Io {
        /// Folder or file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the databroker files at {} are in use by another process; \
         stop it, or give this one a folder of its own (databroker_storage_connection_string)",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It was sealed with another key.
    #[error(
        "the databroker files at {} were sealed with another shared secret; \
         set the former shared_secret again, or move the folder away to start empty",
        path.display()
    )]
    WrongKey {
        /// The folder.
        path: PathBuf,
    },
    /// It is sealed, and no key was given.
    #[error("the databroker files at {} are sealed, but no shared secret is set", path.display())]
    MissingKey {
        /// The folder.
        path: PathBuf,
    },
    /// It is not sealed, though a key was given.
    #[error(
        "the databroker files at {} were written without a key; move the folder away to start empty",
        path.display()
    )]
    NotSealed {
        /// The folder.
        path: PathBuf,
    },
    /// It was written by a version of this program that is too new or too old.
    #[error(
        "the databroker files at {} have format {found}; this program knows format 3: start the version that wrote them, \
         or move the folder away and restore a backup", path.display()
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// It cannot be understood.
    #[error("the databroker files at {} are damaged: {detail}", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// Makes the folder, if there is none; the lock must be kept as long as the store in it is open.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    folder::make(folder).map_err(|source| failed(folder, source))?;
    let path = folder.join(LOCK);
    let file = open_private(&path, false).map_err(|source| failed(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// Whether there is a store in `folder`, of this version or a former one.
pub(super) fn is_in(folder: &Path) -> bool {
    [image::NAME, former::NAME]
        .iter()
        .any(|name| folder.join(name).exists())
}

/// Opens the store in a folder of the operating system, or makes it. Only under the lock.
pub(super) fn at(path: &Path, sealer: &Sealer) -> Result<(Arc<dyn Folder>, Found), OpenError> {
    let folder: Arc<dyn Folder> = Arc::new(folder::Place::new(path));
    let io = |source| failed(path, source);
    let former = former::look(path).map_err(io)?;
    let found = match (recover(&folder, path)?, &former) {
        (Some(found), Former::Store) => {
            // It was read, and the process ended before it was taken away.
            former::put_aside(path).map_err(io)?;
            found
        }
        (Some(found), _) => found,
        (None, Former::Store) => {
            // What a process wrote that ended before it had read everything.
            drop_segments(&*folder).map_err(io)?;
            former::upgrade(path, &folder, sealer)?
        }
        (None, _) => initialise(&folder, path, sealer)?,
    };
    if !matches!(former, Former::Marker) {
        former::mark(&*folder).map_err(io)?;
    }
    let found = fit(&folder, path, found, sealer)?;
    Ok((folder, found))
}

/// Opens the store in `folder`, or makes it. Nothing of a former version is looked for.
#[cfg(test)]
pub(super) fn within(folder: &Arc<dyn Folder>, path: &Path, sealer: &Sealer) -> Result<Found, OpenError> {
    let found = match recover(folder, path)? {
        Some(found) => found,
        None => initialise(folder, path, sealer)?,
    };
    fit(folder, path, found, sealer)
}

/// The store as it is used: opened with the right key, sealed with the first.
fn fit(folder: &Arc<dyn Folder>, path: &Path, found: Found, sealer: &Sealer) -> Result<Found, OpenError> {
    let key_check = found.about.key_check.as_deref();
    check_key(path, sealer, key_check)?;
    if sealer.is_current(key_check) {
        return Ok(found);
    }
    rewrite::seal_anew(folder, path, &found, sealer)
}

/// Whether the key fits to what was noted when the store was sealed.
pub(super) fn check_key(path: &Path, sealer: &Sealer, key_check: Option<&[u8]>) -> Result<(), OpenError> {
    let path = path.to_owned();
    match sealer.fits(key_check) {
        KeyFit::Fits => Ok(()),
        KeyFit::Wrong => Err(OpenError::WrongKey { path }),
        KeyFit::Missing => Err(OpenError::MissingKey { path }),
        KeyFit::NotSealed => Err(OpenError::NotSealed { path }),
    }
}

/// An empty store.
fn initialise(folder: &Arc<dyn Folder>, path: &Path, sealer: &Sealer) -> Result<Found, OpenError> {
    let names = folder.names().map_err(|source| failed(path, source))?;
    if names.iter().any(|name| segment::number(name).is_some()) {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            detail: format!(
                "{} is missing; put it back, restore a backup into a new folder, or move the folder away to start empty",
                image::NAME
            ),
        });
    }
    let about = About {
        key_check: sealer.key_check(),
        line: line(),
        first: 1,
    };
    let index = RwLock::new(Index::new(Counters::fresh()));
    image::write(&**folder, &about, &index, &|| true).map_err(|source| failed(path, source))?;
    Ok(Found {
        journal: Journal::new(Arc::clone(folder), about.line, about.first),
        index: index.into_inner(),
        about,
    })
}

fn drop_segments(folder: &dyn Folder) -> io::Result<()> {
    let names = folder.names()?;
    let segments = names.iter().filter(|name| segment::number(name).is_some());
    segments.into_iter().try_for_each(|name| folder.remove(name))
}

fn failed(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}
