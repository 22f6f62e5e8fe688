//! Making and opening the file: who may read it, who holds it, whether the key fits.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableError};

use super::disk::Opener;
use super::tables::{
    ABOUT, LEASES, LIVE, LOG, NUMBERS, OPTIONS, ORDER, OpenTables, SERVICES, write_counters,
};
use crate::seal::{KeyFit, Sealer};
use crate::store::Counters;

const DATABASE: &str = "databroker.redb";
const LOCK: &str = "databroker.lock";
/// The layout of [`super::tables`].
const FORMAT: &[u8] = b"2";
/// The layout before there were options, leases and an order of writing.
const FIRST_FORMAT: &[u8] = b"1";

const FORMAT_NAME: &str = "format";
const KEY_CHECK_NAME: &str = "key_check";

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
        "the databroker files at {} have format {found}; this program knows format 2: start the version that wrote them, \
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

/// Makes the folder ready; the lock must be kept as long as the database in it is open.
pub(super) fn folder(folder: &Path) -> Result<(File, PathBuf), OpenError> {
    make_folder(folder).map_err(|source| OpenError::Io {
        path: folder.to_owned(),
        source,
    })?;
    let lock = take_lock(folder)?;
    let path = folder.join(DATABASE);
    let io_error = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    discard_unfinished(&path).map_err(io_error)?;
    drop(open_private(&path).map_err(io_error)?);
    Ok((lock, path))
}

/// Opens or makes the database.
pub(super) fn database(folder: &Path, opener: &Opener, sealer: &Sealer) -> Result<Database, OpenError> {
    let database = opener().map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
            path: folder.to_owned(),
        },
        // What is no database at all also comes as a failure to read.
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            OpenError::Io {
                path: folder.to_owned(),
                source,
            }
        }
        error => damaged(folder, error),
    })?;
    match read_about(&database).map_err(|error| damaged(folder, error))? {
        None => initialise(&database, sealer).map_err(|error| damaged(folder, error))?,
        Some(about) => {
            about.check(folder, sealer)?;
            if about.format == FIRST_FORMAT {
                upgrade(&database, sealer).map_err(|error| damaged(folder, error))?;
            }
            if !sealer.is_current(about.key_check.as_deref()) {
                seal_anew(&database, sealer).map_err(|error| damaged(folder, error))?;
            }
        }
    }
    Ok(database)
}

fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let file = open_private(&path).map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// A file whose very first creation was interrupted starts with zeros and holds nothing yet; the
/// library refuses it. Only called under the lock.
fn discard_unfinished(path: &Path) -> io::Result<()> {
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(9).read_to_end(&mut head)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if head.iter().all(|byte| *byte == 0) {
        fs::remove_file(path)
    } else {
        Ok(())
    }
}

struct About {
    format: Vec<u8>,
    key_check: Option<Vec<u8>>,
}

impl About {
    fn check(&self, folder: &Path, sealer: &Sealer) -> Result<(), OpenError> {
        let path = folder.to_owned();
        if self.format != FORMAT && self.format != FIRST_FORMAT {
            let found = String::from_utf8_lossy(&self.format).into_owned();
            return Err(OpenError::Format { path, found });
        }
        match sealer.fits(self.key_check.as_deref()) {
            KeyFit::Fits => Ok(()),
            KeyFit::Wrong => Err(OpenError::WrongKey { path }),
            KeyFit::Missing => Err(OpenError::MissingKey { path }),
            KeyFit::NotSealed => Err(OpenError::NotSealed { path }),
        }
    }
}

/// What the file says of itself; `None` when it is new.
fn read_about(database: &Database) -> Result<Option<About>, redb::Error> {
    let transaction = database.begin_read()?;
    let about = match transaction.open_table(ABOUT) {
        Ok(about) => about,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let read = |name| -> Result<Option<Vec<u8>>, redb::Error> {
        Ok(about.get(name)?.map(|value| value.value().to_vec()))
    };
    Ok(Some(About {
        format: read(FORMAT_NAME)?.unwrap_or_default(),
        key_check: read(KEY_CHECK_NAME)?,
    }))
}

fn initialise(database: &Database, sealer: &Sealer) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        about.insert(FORMAT_NAME, FORMAT)?;
        if let Some(check) = sealer.key_check() {
            about.insert(KEY_CHECK_NAME, check.as_slice())?;
        }
        write_counters(&mut transaction.open_table(NUMBERS)?, Counters::fresh())?;
        transaction.open_table(LIVE)?;
        transaction.open_table(LOG)?;
        transaction.open_table(ORDER)?;
        transaction.open_table(OPTIONS)?;
        transaction.open_table(LEASES)?;
        transaction.open_table(SERVICES)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Brings a file of the first format up to date, whole or not at all.
fn upgrade(database: &Database, sealer: &Sealer) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = database.begin_write()?;
    OpenTables::new(&transaction, sealer)?.order_all()?;
    transaction.open_table(ABOUT)?.insert(FORMAT_NAME, FORMAT)?;
    transaction.commit()?;
    tracing::info!("the databroker file was brought to format 2");
    Ok(())
}

/// Seals everything with the first key, whole or not at all.
fn seal_anew(database: &Database, sealer: &Sealer) -> Result<(), Box<dyn std::error::Error>> {
    tracing::info!("the databroker file is sealed with the shared secret of today; this can take a while");
    let transaction = database.begin_write()?;
    OpenTables::new(&transaction, sealer)?.seal_anew()?;
    if let Some(check) = sealer.key_check() {
        transaction
            .open_table(ABOUT)?
            .insert(KEY_CHECK_NAME, check.as_slice())?;
    }
    transaction.commit()?;
    tracing::info!(
        "the databroker file is sealed anew; the former shared secret is not needed for it any more"
    );
    Ok(())
}

fn damaged(folder: &Path, error: impl std::fmt::Display) -> OpenError {
    OpenError::Damaged {
        path: folder.to_owned(),
        detail: error.to_string(),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Opens or makes a file that only its owner may read and write.
fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}
