//! Records in a file. Lines are appended whole; after a failure writing goes on at the byte where it stopped. The file
//! is opened anew when somebody renamed or removed it, so `logrotate` needs to tell nobody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pomerium_config::settings::{AuditFile, AuditFsync};

use super::queue::Taken;
use super::sink::Shared;

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);
/// Longest wait for lines.
const WAIT: Duration = Duration::from_secs(3600);
/// At most so many lines and bytes are written with one call.
const MOST: (usize, usize) = (10_000, 1 << 20);
/// Wait after a failure: the first, and the longest.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long the end waits for a file that cannot be written.
const LAST: Duration = Duration::from_secs(2);
const FSYNC: Duration = Duration::from_secs(1);

/// An open file.
pub(super) struct FileWriter {
    settings: AuditFile,
    file: File,
    size: u64,
    /// When the oldest bytes that were not forced to disk were written.
    unsynced: Option<Instant>,
}

impl FileWriter {
    /// Opens the file. A line that a crash cut off is ended, so that ours begin on a line of their own.
    pub(super) fn open(settings: AuditFile) -> io::Result<Self> {
        let (file, size) = open(&settings.path)?;
        Ok(Self {
            settings,
            file,
            size,
            unsynced: None,
        })
    }

    /// Writes until the queue is closed.
    pub(super) fn run(mut self, shared: &Shared) {
        loop {
            let wait = match self.unsynced {
                Some(since) => FSYNC.saturating_sub(since.elapsed()),
                None => WAIT,
            };
            match shared.queue.take(MOST, (wait, GATHER), || shared.clock.now()) {
                Taken::Closed => break,
                Taken::Nothing => {}
                Taken::Lines(lines) => {
                    if !self.write(&lines, shared) {
                        shared.abandoned(&lines);
                        return;
                    }
                    shared.arrived(&lines);
                }
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= FSYNC) {
                self.sync(shared);
            }
        }
        if self.unsynced.is_some() {
            self.sync(shared);
        }
    }

    /// Writes all lines, however long it takes; false when the program ends before it can be done.
    fn write(&mut self, lines: &[Vec<u8>], shared: &Shared) -> bool {
        let text = lines.concat();
        let mut done = 0;
        let mut pause = RETRY[0];
        loop {
            match self.attempt(&text, &mut done) {
                Ok(()) => break,
                Err(error) => {
                    let path = self.settings.path.display();
                    shared.failed(
                        &format!("{path}: {error}"),
                        "make room on the disk and check the rights of the folder; writing goes on by itself",
                    );
                }
            }
            if shared.queue.closed_for().is_some_and(|time| time > LAST) {
                return false;
            }
            shared.queue.pause(pause);
            pause = (pause * 2).min(RETRY[1]);
        }
        if self.settings.fsync == AuditFsync::Always {
            self.sync(shared);
        } else if self.settings.fsync == AuditFsync::Second {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        if self.settings.rotate_bytes.is_some_and(|most| self.size >= most)
            && let Err(error) = self.rotate()
        {
            shared.failed(
                &format!(
                    "{}: a new file cannot be begun: {error}",
                    self.settings.path.display()
                ),
                "check the rights of the folder",
            );
        }
        true
    }

    /// Writes what is left of `text` behind `done`.
    fn attempt(&mut self, text: &[u8], done: &mut usize) -> io::Result<()> {
        if !is_open_as(&self.file, &self.settings.path) {
            (self.file, self.size) = open(&self.settings.path)?;
            // The line that was under way stays torn in the old file, and is written whole here.
            *done = text[..*done]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
        }
        while *done < text.len() {
            match self.file.write(&text[*done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    *done += count;
                    self.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self, shared: &Shared) {
        self.unsynced = None;
        if let Err(error) = self.file.sync_data() {
            let path = self.settings.path.display();
            shared.failed(&format!("{path}: not forced to disk: {error}"), "check the disk");
        }
    }

    /// `audit.log` becomes `audit.log.1`, that one `audit.log.2`, and so on.
    fn rotate(&mut self) -> io::Result<()> {
        // Another process (one that takes over, or logrotate) may have done it.
        if is_open_as(&self.file, &self.settings.path) {
            let path = &self.settings.path;
            let keep = self.settings.keep;
            if keep == 0 {
                fs::remove_file(path)?;
            } else {
                for number in (1..keep).rev() {
                    present(fs::rename(numbered(path, number), numbered(path, number + 1)))?;
                }
                fs::rename(path, numbered(path, 1))?;
            }
        }
        (self.file, self.size) = open(&self.settings.path)?;
        Ok(())
    }
}

/// The path of the `number`th oldest file; 1 is the newest.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn present(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true).mode(0o600);
    let mut file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Ok((file, 0));
    }
    let size = file.seek(SeekFrom::End(0))?;
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok((file, size))
}

/// Whether `file` is what stands under `path` now.
fn is_open_as(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
