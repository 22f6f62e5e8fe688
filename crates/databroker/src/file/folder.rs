//! Files by name in one folder, as far as the store needs them. Tests have disks of their own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder.
pub(super) trait Folder: Send + Sync {
    /// What is in it.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file, in place of one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Handle>>;
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Handle>>;
    /// Gives a file another name, in place of one of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file out. Whoever has it open reads on.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what became of the names durable.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub(super) trait Handle: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills `out` from the byte `at` on; an error when the file ends before.
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` from the byte `at` on.
    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// Reads a file from a byte on.
pub(super) struct Sequence<'h> {
    file: &'h dyn Handle,
    at: u64,
    end: u64,
}

impl<'h> Sequence<'h> {
    /// From `at` to `end`, in bytes.
    pub(super) fn new(file: &'h dyn Handle, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }
}

impl Read for Sequence<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = out.len().min(left);
        self.file.read_at(self.at, &mut out[..length])?;
        self.at += length as u64;
        Ok(length)
    }
}

/// A folder of the operating system.
pub(super) struct Place(PathBuf);

impl Place {
    /// The folder at `path`, which must be there.
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Folder for Place {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            // What is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Handle>> {
        Ok(Arc::new(open_private(&self.0.join(name), true)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Handle>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.0.join(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        // Elsewhere a folder cannot be opened as a file.
        if cfg!(unix) {
            File::open(&self.0)?.sync_all()?;
        }
        Ok(())
    }
}

impl Handle for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, out, at)
    }

    #[cfg(unix)]
    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, data, at)
    }

    #[cfg(windows)]
    fn read_at(&self, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let length = std::os::windows::fs::FileExt::seek_read(self, out, at)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += length as u64;
            out = &mut out[length..];
        }
        Ok(())
    }

    #[cfg(windows)]
    fn write_at(&self, mut at: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let length = std::os::windows::fs::FileExt::seek_write(self, data, at)?;
            at += length as u64;
            data = &data[length..];
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()?;
        // What goes into a file without a name is gone with the process.
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&self.metadata()?) == 0 {
            return Err(io::Error::other("its files were deleted while it was open"));
        }
        Ok(())
    }
}

/// Makes a folder that only its owner may use; one that is there is left as it is.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Opens or makes a file that only its owner may read and write.
pub(super) fn open_private(path: &Path, empty: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(empty);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}
