//! Tells when the config file, or any file it names, has new content.
//!
//! Directories are watched rather than files, so that editors that replace a file and swapped symbolic links
//! (Kubernetes secrets) are seen. Where no notification arrives, bind mounts and network file systems for
//! instance, a slow poll finds the change. Only new content counts: a touched file is no change.

mod files;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use files::Files;

/// How often files are looked at without a notification.
const POLL: Duration = Duration::from_secs(2);
/// Notifications within this time count as one change: a writer needs a moment to finish.
const SETTLE: Duration = Duration::from_millis(50);

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
        let wake = Arc::clone(&event);
        let native = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
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
        };
        watcher.watch(files);
        Ok(watcher)
    }

    /// Watches another set of files from now on. Files that stay keep the state they are compared with, so a
    /// change in the meantime is not lost.
    pub fn watch(&mut self, files: Vec<PathBuf>) {
        let wanted: HashSet<PathBuf> = files.iter().flat_map(|file| directories(file)).collect();
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
            tokio::select! {
                () = self.event.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(POLL) => {}
            }
            if self.files.check() {
                return true;
            }
        }
    }
}

/// The directory of a file, and that of what it is a symbolic link to. A folder is its own.
fn directories(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => PathBuf::from("/"),
    };
    let mut directories = vec![parent(file)];
    if let Ok(target) = file.canonicalize() {
        directories.push(if target.is_dir() { target } else { parent(&target) });
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

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
