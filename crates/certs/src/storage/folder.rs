//! Values as files in a folder that only its owner can enter.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{Claim, Held, MAX_KEYS, MAX_VALUE, Storage, StorageError, lock_key};
use crate::files::create_private_directory;

/// Begins the names of files that are being written.
const UNFINISHED: &str = ".new-";

/// A folder on a local disk, or on one that several machines share.
#[derive(Debug, Clone)]
pub struct FolderStorage {
    root: Arc<Path>,
}

impl FolderStorage {
    /// Uses `root`; it is made when something is first written.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &str) -> Result<PathBuf, StorageError> {
        let relative = Path::new(key);
        let plain = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if key.is_empty() || !plain {
            return Err(StorageError::new(key, "not a key"));
        }
        Ok(self.root.join(relative))
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let path = self.path(key)?;
        let shown = path.display().to_string();
        tokio::task::spawn_blocking(move || work(&path))
            .await
            .map_err(|error| StorageError::new(key, error.to_string()))?
            .map_err(|error| StorageError::new(key, format!("{shown}: {error}")))
    }
}

#[async_trait]
impl Storage for FolderStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.on_disk(key, read).await
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<(), StorageError> {
        let value = value.to_vec();
        self.on_disk(key, move |path| {
            let beside = write_beside(path, &value)?;
            fs::rename(&beside, path).inspect_err(|_| discard(&beside))
        })
        .await
    }

    async fn put_if_absent(&self, key: &str, value: &[u8]) -> Result<bool, StorageError> {
        let value = value.to_vec();
        self.on_disk(key, move |path| {
            let beside = write_beside(path, &value)?;
            // A link, unlike a rename, does not replace.
            let linked = fs::hard_link(&beside, path);
            discard(&beside);
            match linked {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let root = Arc::clone(&self.root);
        self.on_disk(prefix, move |path| {
            let mut keys = Vec::new();
            walk(&root, path, &mut keys)?;
            keys.sort();
            Ok(keys)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.on_disk(key, |path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    async fn claim(&self, name: &str, claim: &Claim) -> Result<bool, StorageError> {
        let (claim, key) = (claim.clone(), lock_key(name));
        let content = Held::by(&claim).to_json()?;
        self.on_disk(&key, move |path| {
            guarded(path, || {
                if read(path)?.is_some_and(|held| Held::blocks(&held, &claim)) {
                    return Ok(false);
                }
                let beside = write_beside(path, &content)?;
                fs::rename(&beside, path).map(|()| true)
            })
        })
        .await
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError> {
        let (owner, key) = (owner.to_owned(), lock_key(name));
        self.on_disk(&key, move |path| {
            guarded(path, || {
                if read(path)?.is_some_and(|held| Held::is_owned(&held, &owner)) {
                    return fs::remove_file(path);
                }
                Ok(())
            })
        })
        .await
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut value = Vec::new();
    file.take(MAX_VALUE as u64 + 1).read_to_end(&mut value)?;
    if value.len() > MAX_VALUE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is too large",
        ));
    }
    Ok(Some(value))
}

/// Writes what is to become `path`, for its owner alone, and makes sure that it is on the disk.
fn write_beside(path: &Path, value: &[u8]) -> io::Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_private_directory(folder)?;
    let suffix = hex::encode(pomerium_crypto::random::bytes::<8>());
    let beside = folder.join(format!("{UNFINISHED}{suffix}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    let written = file.write_all(value).and_then(|()| file.sync_all());
    written.map(|()| beside.clone()).inspect_err(|_| discard(&beside))
}

fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Reading a lock file and replacing it are two steps; a lock of the system around them makes them one. It is
/// held for that moment only, and goes with the process.
fn guarded<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_private_directory(folder)?;
    let guard = folder.join(".guard");
    let guard = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(guard)?;
    guard.lock()?;
    let result = work();
    guard.unlock()?;
    result
}

fn walk(root: &Path, folder: &Path, keys: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(root, &path, keys)?;
        } else if !name.to_string_lossy().starts_with('.')
            && let Ok(relative) = path.strip_prefix(root)
        {
            if keys.len() >= MAX_KEYS {
                return Err(io::Error::other("too many files"));
            }
            keys.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}
