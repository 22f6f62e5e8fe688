//! Tells when the config file, or any file it names, has new content.
//!
//! Directories are watched rather than files, so that editors that replace a file and swapped symbolic links
//! (Kubernetes secrets) are seen. Where no notification arrives, bind mounts and network file systems for
//! instance, a slow poll finds the change. Only new content counts: a touched file is no change. And only whole content:
//! half a configuration may lack the half that keeps people out, so that a writer is waited for ([`writers`]).

mod files;
mod writers;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use files::Files;
use writers::Writers;

/// How often files are looked at without a notification.
const POLL: Duration = Duration::from_secs(2);
/// Notifications within this time count as one change.
const SETTLE: Duration = Duration::from_millis(50);
/// Where nobody tells that a writer has finished: nothing has changed for this long.
const QUIET: Duration = Duration::from_millis(250);
/// How long a writer that does not finish is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There are no notifications, and no file can be polled either.
    #[error("no notifications ({0}), and none of the files can be read")]
    Blind(notify::Error),
}

/// Watches a set of files.
pub struct Watcher {
    files: Files,
    native: Option<RecommendedWatcher>,
    directories: HashSet<PathBuf>,
    event: Arc<Notify>,
    writers: Arc<Writers>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("directories", &self.directories)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// Begins to watch; what the files hold now is the state that later content is compared with. Files that
    /// do not exist are waited for.
    ///
    /// # Errors
    /// When neither notifications nor polling can work.
    pub fn start(files: Vec<PathBuf>) -> Result<Self, WatchError> {
        let event = Arc::new(Notify::new());
        let writers = Arc::new(Writers::default());
        let (wake, at_work) = (Arc::clone(&event), Arc::clone(&writers));
        let native = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| at_work.note(&event)) {
                wake.notify_one();
            }
        });
        let known = Files::new(&files);
        let native = match native {
            Ok(native) => Some(native),
            Err(error) if known.any_readable() => {
                tracing::warn!(%error, "no file notifications: changes of the configuration are found by polling");
                None
            }
            Err(error) => return Err(WatchError::Blind(error)),
        };
        let mut watcher = Self {
            files: known,
            native,
            directories: HashSet::new(),
            event,
            writers,
        };
        watcher.watch(files);
        Ok(watcher)
    }

    /// Watches another set of files from now on. Files that stay keep the state they are compared with, so a
    /// change in the meantime is not lost.
    pub fn watch(&mut self, files: Vec<PathBuf>) {
        let wanted: HashSet<PathBuf> = files.iter().flat_map(|file| directories(file)).collect();
        self.writers.watch(&files);
        self.files.set(files);
        let Some(native) = &mut self.native else { return };
        for gone in self.directories.difference(&wanted) {
            // The directory may be gone, and its watch with it.
            let _ = native.unwatch(gone);
        }
        let kept = self.directories.intersection(&wanted).cloned();
        let mut now: HashSet<PathBuf> = kept.collect();
        for directory in wanted {
            if now.contains(&directory) || native.watch(&directory, RecursiveMode::NonRecursive).is_ok() {
                now.insert(directory);
            } else {
                tracing::debug!(directory = %directory.display(), "not watched: changes are found by polling");
            }
        }
        self.directories = now;
    }

    /// Waits until a file has new content; true when one has. May be dropped and called again.
    pub async fn changed(&mut self) -> bool {
        loop {
            let told = tokio::select! {
                () = self.event.notified() => true,
                () = tokio::time::sleep(POLL) => false,
            };
            if told {
                tokio::time::sleep(SETTLE).await;
            }
            self.writers_done().await;
            if !told || !writers::TELL {
                self.quiet().await;
            }
            if self.files.check() {
                return true;
            }
        }
    }

    /// Waits for those who write to one of the files now.
    async fn writers_done(&self) {
        let end = Instant::now() + PATIENCE;
        while let Some(patience) = self.writers.at_work(PATIENCE) {
            let left = patience.min(end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            let _ = tokio::time::timeout(left, self.event.notified()).await;
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Waits until files that have changed change no more.
    async fn quiet(&self) {
        let end = Instant::now() + PATIENCE;
        let mut before = self.files.signs();
        while self.files.differ() && Instant::now() < end {
            tokio::time::sleep(QUIET).await;
            let now = self.files.signs();
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// The directory of a file.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => PathBuf::from("/"),
    }
}

/// The directory of a file, and that of what it is a symbolic link to. A folder is its own.
fn directories(file: &Path) -> Vec<PathBuf> {
    let mut directories = vec![parent(file)];
    if let Ok(target) = file.canonicalize() {
        directories.push(if target.is_dir() { target } else { parent(&target) });
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in `file` at every change that is told, until it holds `last`.
    async fn seen(watcher: &mut Watcher, file: &Path, last: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|text| text != last) {
            expect_change(watcher).await;
            seen.push(std::fs::read_to_string(file).unwrap());
        }
        seen
    }

    /// Writes to `file` what the parts say, with a pause between them in which the file is half written.
    fn write_slowly(file: &Path, parts: [&'static str; 2]) -> tokio::task::JoinHandle<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(file).unwrap();
        tokio::spawn(async move {
            for part in parts {
                file.write_all(part.as_bytes()).unwrap();
                file.flush().unwrap();
                tokio::time::sleep(QUIET * 2).await;
            }
        })
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_not_looked_at_before_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, "old").unwrap();
        let mut watcher = Watcher::start(vec![config.clone()]).unwrap();
        for (parts, whole) in [(["", "all"], "all"), (["open ", "deny"], "open deny")] {
            let writer = write_slowly(&config, parts);
            assert_eq!(seen(&mut watcher, &config, whole).await, [whole]);
            writer.await.unwrap();
        }
        // A log beside it that is written all the time holds nothing up.
        let mut log = std::fs::File::create(dir.path().join("log")).unwrap();
        std::io::Write::write_all(&mut log, b"line").unwrap();
        std::fs::write(dir.path().join("new"), "renamed").unwrap();
        std::fs::rename(dir.path().join("new"), &config).unwrap();
        assert_eq!(seen(&mut watcher, &config, "renamed").await, ["renamed"]);
    }

    #[tokio::test]
    async fn without_notifications_a_file_has_to_be_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, "old").unwrap();
        let mut watcher = Watcher::start(vec![config.clone()]).unwrap();
        watcher.native = None;
        std::fs::write(&config, "whole").unwrap();
        assert_eq!(seen(&mut watcher, &config, "whole").await, ["whole"]);
    }

    async fn expect_change(watcher: &mut Watcher) {
        tokio::time::timeout(Duration::from_secs(30), watcher.changed())
            .await
            .expect("a change is seen");
    }

    #[tokio::test]
    async fn sees_a_replaced_file_and_one_that_appears() {
        let dir = tempfile::tempdir().unwrap();
        let (config, later) = (dir.path().join("config.yaml"), dir.path().join("later.pem"));
        std::fs::write(&config, "a: 1\n").unwrap();
        let mut watcher = Watcher::start(vec![config.clone(), later.clone()]).unwrap();
        let temporary = dir.path().join(".config.tmp");
        std::fs::write(&temporary, "a: 2\n").unwrap();
        std::fs::rename(&temporary, &config).unwrap();
        expect_change(&mut watcher).await;
        std::fs::write(&later, "pem").unwrap();
        expect_change(&mut watcher).await;
    }

    #[tokio::test]
    async fn sees_a_swapped_link() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
            std::fs::write(dir.path().join(version).join("key"), text).unwrap();
        }
        let link =
            |name: &str, target: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        link("..data", "v1");
        link("key", "..data/key");
        let mut watcher = Watcher::start(vec![dir.path().join("key")]).unwrap();
        link("..data_tmp", "v2");
        std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        expect_change(&mut watcher).await;
    }

    #[tokio::test]
    async fn a_change_while_the_set_is_replaced_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "1").unwrap();
        let mut watcher = Watcher::start(vec![a.clone()]).unwrap();
        std::fs::write(&a, "22").unwrap();
        watcher.watch(vec![a, b]);
        expect_change(&mut watcher).await;
    }
}
