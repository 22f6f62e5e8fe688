//! Who writes to one of the files right now. A writer that opens a file, empties it and fills it bit by bit leaves
//! something else than it wants to say until it closes it; one that renames a whole file into place does not.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use parking_lot::Mutex;

use super::parent;

/// Whether the system tells that a file was closed that somebody wrote to.
pub(super) const TELL: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Kept by the thread that hears of events, read by the one that waits.
#[derive(Default)]
pub(super) struct Writers(Mutex<State>);

#[derive(Default)]
struct State {
    /// The files, as events name them; what is in a folder counts as well.
    watched: HashSet<PathBuf>,
    /// Those that somebody has begun to write to, and when.
    begun: HashMap<PathBuf, Instant>,
}

impl Writers {
    /// These files count. Who writes to one that stays is still waited for.
    pub(super) fn watch(&self, files: &[PathBuf]) {
        let mut state = self.0.lock();
        state.watched = files.iter().flat_map(|file| names(file)).collect();
        let State { watched, begun } = &mut *state;
        begun.retain(|path, _| counts(watched, path));
    }

    /// Takes notice of an event; false when it is no reason to look at the files. Who writes to another file of the
    /// folder, a log for instance, is none; what gets a name there is one, since it may be a link on the way to a file.
    pub(super) fn note(&self, event: &notify::Event) -> bool {
        let mut state = self.0.lock();
        let State { watched, begun } = &mut *state;
        let mut ours = event.paths.clone();
        ours.retain(|path| counts(watched, path));
        let told = !TELL || !ours.is_empty();
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                begun.retain(|path, _| !ours.contains(path));
                told
            }
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                begin(ours, begun);
                told
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => told,
            EventKind::Create(_) => {
                ours.retain(|path| is_opened(path));
                begin(ours, begun);
                true
            }
            // Another file has the name now, or none.
            _ => {
                begun.retain(|path, _| !ours.contains(path));
                true
            }
        }
    }

    /// How long to wait for those at work; `None` when there is nobody, or they have had `patience`.
    pub(super) fn at_work(&self, patience: Duration) -> Option<Duration> {
        let mut state = self.0.lock();
        state.begun.retain(|_, begun| begun.elapsed() < patience);
        let since = state.begun.values().min()?;
        Some(patience.saturating_sub(since.elapsed()))
    }
}

/// From now on, unless they are at work already. Where nobody tells of the end there is nothing to wait for.
fn begin(paths: Vec<PathBuf>, begun: &mut HashMap<PathBuf, Instant>) {
    for path in paths.into_iter().filter(|_| TELL) {
        begun.entry(path).or_insert_with(Instant::now);
    }
}

/// Whether a file that has just appeared was made by opening it, and not as a link to what was there.
fn is_opened(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.nlink() == 1)
}

fn counts(watched: &HashSet<PathBuf>, path: &Path) -> bool {
    watched.contains(path) || path.parent().is_some_and(|folder| watched.contains(folder))
}

/// A file under the names that events have for it: in its folder, and as what it is a symbolic link to.
fn names(file: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = file
        .file_name()
        .map(|name| parent(file).join(name))
        .into_iter()
        .collect();
    names.extend(file.canonicalize());
    names
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use notify::Event;
    use notify::event::{CreateKind, DataChange, RenameMode};

    use super::*;

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    fn note(writers: &Writers, kind: EventKind, path: &str) -> bool {
        writers.note(&Event::new(kind).add_path(path.into()))
    }

    #[test]
    fn who_writes_is_at_work_until_the_file_is_closed_or_replaced() {
        let writers = Writers::default();
        writers.watch(&["/c/config.yaml".into(), "/c/folder".into()]);
        let busy = || writers.at_work(Duration::from_secs(60)).is_some();
        for end in [CLOSED, RENAMED] {
            for path in ["/c/config.yaml", "/c/folder/new.pem"] {
                assert!(note(&writers, WRITTEN, path) && busy(), "{path}");
                assert!(note(&writers, end, path) && !busy(), "{path}");
            }
        }
        assert!(!note(&writers, WRITTEN, "/c/other.log") && !busy());
        assert!(
            note(&writers, RENAMED, "/c/..data"),
            "a link on the way to a file"
        );
        assert!(note(&writers, EventKind::Create(CreateKind::File), "/c/config.yaml") && !busy());
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(!note(&writers, opened, "/c/config.yaml"), "reading is no change");
        note(&writers, WRITTEN, "/c/config.yaml");
        assert!(
            writers.at_work(Duration::ZERO).is_none() && !busy(),
            "patience ends"
        );
        note(&writers, WRITTEN, "/c/config.yaml");
        writers.watch(&["/c/other.yaml".into()]);
        assert!(!busy(), "nobody asks for it any more");
    }
}
