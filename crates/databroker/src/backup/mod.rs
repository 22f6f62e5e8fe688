//! Backups: every record of a databroker in one sealed file, of one moment though it runs on meanwhile.
//!
//! `format` is the file, [`write`] and [`restore`] fill and empty it, [`check`] reads it from end to end. A restore begins
//! only after the whole file was checked, and only into a store without records.
//! Leases are not in it: they belong to processes that run. Records that cannot be read are not in it either; it says which
//! they are ([`Summary::left_out`]), and so does whoever makes it.

mod format;
mod restore;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use pomerium_api::databroker::{Error, RecordKey, Versions};

pub use self::restore::{Checked, check};
pub use self::write::write;

/// What the key of backups is derived for, from the shared secret.
pub const PURPOSE: &str = "databroker-backup";

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// When it was begun.
    pub created: Timestamp,
    /// The moment it is of, in the database it was made of.
    pub versions: Versions,
    /// Live records by type.
    pub records: BTreeMap<String, u64>,
    /// Type and id of those that could not be read when it was made, and are not in it. Not all of them, if they are very
    /// many.
    pub left_out: Vec<RecordKey>,
}

/// Why a backup was not written, read or restored. Whatever was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something is there already.
    #[error("{} exists already; name another file, or move it away", .0.display())]
    Exists(PathBuf),
    /// It is something else.
    #[error("{} is no backup of a databroker", .0.display())]
    Foreign(PathBuf),
    /// A later program wrote it.
    #[error("{} has format {found}, this program knows {known}; restore it with the version that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// The latest known here.
        known: u32,
    },
    /// It is not what was written.
    #[error("{} is cut short or damaged: {detail}; take another copy of it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// It was sealed with another key.
    #[error(
        "{} was sealed with another key; give the shared secret of the installation it was made of \
         (--secret-file FILE)", .0.display()
    )]
    WrongKey(PathBuf),
    /// There are records in the store.
    #[error(
        "the store has {0} types of records; a restore goes into an empty one only: move its folder away, or name another \
         store (--into)"
    )]
    NotEmpty(usize),
    /// The databroker or store refuses.
    #[error(transparent)]
    Store(#[from] Error),
}
