//! What a set of files held when it was last looked at. A folder holds the names in it.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Cheap signs of a change: device, inode, size, time of change.
pub(super) type Signs = (u64, u64, u64, i64, i64);

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    signs: Option<Signs>,
    content: Option<[u8; 32]>,
}

pub(super) struct Files(HashMap<PathBuf, State>);

impl Files {
    pub(super) fn new(files: &[PathBuf]) -> Self {
        Self(files.iter().map(|file| (file.clone(), look(file))).collect())
    }

    pub(super) fn any_readable(&self) -> bool {
        self.0.values().any(|state| state.content.is_some())
    }

    /// Other files; those that stay keep their state.
    pub(super) fn set(&mut self, files: Vec<PathBuf>) {
        self.0.retain(|file, _| files.contains(file));
        for file in files {
            self.0.entry(file).or_insert_with_key(|file| look(file));
        }
    }

    /// The cheap signs of all of them now.
    pub(super) fn signs(&self) -> Vec<Option<Signs>> {
        self.0.keys().map(|file| signs_of(file)).collect()
    }

    /// Whether the signs of any differ from the last look.
    pub(super) fn differ(&self) -> bool {
        self.0.iter().any(|(file, state)| signs_of(file) != state.signs)
    }

    /// Whether any content differs from the last look. Content is read only where the signs differ.
    pub(super) fn check(&mut self) -> bool {
        let mut changed = false;
        for (file, state) in &mut self.0 {
            if signs_of(file) == state.signs {
                continue;
            }
            let now = look(file);
            changed |= now.content != state.content;
            *state = now;
        }
        changed
    }
}

fn look(file: &Path) -> State {
    // Signs first: content that changes after them is found at the next look.
    let signs = signs_of(file);
    let content = fs::read(file).or_else(|_| names(file));
    State {
        signs,
        content: content.ok().map(|bytes| Sha256::digest(&bytes).into()),
    }
}

fn names(folder: &Path) -> io::Result<Vec<u8>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_encoded_bytes()));
    let mut names = entries.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names.join(&0))
}

fn signs_of(file: &Path) -> Option<Signs> {
    fs::metadata(file).ok().as_ref().map(signs)
}

fn signs(metadata: &Metadata) -> Signs {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_changes_with_the_names_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(&[dir.path().to_owned()]);
        assert!(!files.check());
        let file = dir.path().join("a");
        fs::write(&file, "one").unwrap();
        assert!(files.check());
        fs::write(&file, "two").unwrap();
        assert!(!files.check());
        fs::remove_file(&file).unwrap();
        assert!(files.check());
    }

    #[test]
    fn only_content_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut files = Files::new(std::slice::from_ref(&file));
        assert!(!files.check());
        let copy = dir.path().join("copy");
        fs::write(&copy, "one").unwrap();
        fs::rename(&copy, &file).unwrap();
        assert!(!files.check(), "same content in a new file");
        fs::write(&file, "three").unwrap();
        assert!(files.check());
        assert!(!files.check());
        fs::remove_file(&file).unwrap();
        assert!(files.check());
        fs::write(&file, "three").unwrap();
        assert!(files.check());
    }
}
