//! The shared secret of an installation that was not given one: made once, kept in the data folder with mode
//! 0600, so that sessions and encrypted records survive a restart.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pomerium_crypto::{encoding, random};

/// File name in the data folder.
pub(crate) const FILE_NAME: &str = "shared_secret";

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GeneratedError {
    /// Others can read it.
    #[error("{path}: permissions are too open (mode {mode:04o}, expected 0600)")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold base64 of 32 bytes.
    #[error("{0}: does not hold a secret")]
    Damaged(PathBuf),
    /// Records exist that were written under a secret that is gone.
    #[error("{store}: holds records, but the secret they were written with ({secret}) is gone")]
    Orphaned {
        /// The store.
        store: PathBuf,
        /// Where the secret should be.
        secret: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Reads the secret; `None` when there is none yet.
pub(crate) fn read(data_dir: &Path) -> Result<Option<[u8; 32]>, GeneratedError> {
    let path = data_dir.join(FILE_NAME);
    let failed = |error| GeneratedError::Io {
        path: path.clone(),
        error,
    };
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(GeneratedError::TooOpen { path, mode });
    }
    let text = fs::read_to_string(&path).map_err(failed)?;
    encoding::secret_32(text.trim())
        .map(Some)
        .map_err(|_| GeneratedError::Damaged(path.clone()))
}

/// Reads the secret or makes one. A store that already holds records must not get a new secret.
pub(crate) fn read_or_create(data_dir: &Path, store: Option<&Path>) -> Result<[u8; 32], GeneratedError> {
    if let Some(secret) = read(data_dir)? {
        return Ok(secret);
    }
    refuse_orphans(data_dir, store)?;
    let secret = random::bytes::<32>();
    write_new(data_dir, &encoding::base64_encode(&secret))?;
    // Another process may have been quicker: what counts is what is in the file.
    Ok(read(data_dir)?.unwrap_or(secret))
}

pub(crate) fn refuse_orphans(data_dir: &Path, store: Option<&Path>) -> Result<(), GeneratedError> {
    let holds_records = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    match store.filter(|dir| holds_records(dir)) {
        Some(store) => Err(GeneratedError::Orphaned {
            store: store.to_owned(),
            secret: data_dir.join(FILE_NAME),
        }),
        None => Ok(()),
    }
}

/// Writes a temporary file and links it into place, which fails when the name is taken: a reader never sees
/// half a secret, and two processes never end up with two.
fn write_new(data_dir: &Path, text: &str) -> Result<(), GeneratedError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| GeneratedError::Io { path, error }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(failed(data_dir))?;
    let temporary = data_dir.join(format!(".{FILE_NAME}.{}", random::base64url(9)));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed(&temporary))?;
    let target = data_dir.join(FILE_NAME);
    let written = file
        .set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| match fs::hard_link(&temporary, &target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::File::open(data_dir).and_then(|dir| dir.sync_all()),
        });
    // Best effort: a left-over temporary file is private and harmless.
    let _ = fs::remove_file(&temporary);
    written.map_err(failed(&target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = read_or_create(&data, None).unwrap();
        assert_eq!(read_or_create(&data, None).unwrap(), first);
        let mode = fs::metadata(data.join(FILE_NAME)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(
            fs::read_dir(&data).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn open_permissions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        read_or_create(dir.path(), None).unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read(dir.path()),
            Err(GeneratedError::TooOpen { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_store_without_its_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("databroker");
        fs::create_dir(&store).unwrap();
        assert!(
            read_or_create(dir.path(), Some(&store)).is_ok(),
            "an empty folder is no store"
        );
        fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
        fs::write(store.join("records.redb"), b"x").unwrap();
        let refused = read_or_create(dir.path(), Some(&store));
        assert!(matches!(refused, Err(GeneratedError::Orphaned { .. })));
        assert!(!dir.path().join(FILE_NAME).exists());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, "AAAA").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read(dir.path()), Err(GeneratedError::Damaged(_))));
    }
}
