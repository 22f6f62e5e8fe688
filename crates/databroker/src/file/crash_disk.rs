//! A folder in memory that knows what has not been flushed, of files and of their names.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::folder::{Folder, Handle};

/// A file by the order in which files were made: names come and go.
pub(super) type Node = usize;

/// What was done to the disk.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Write(Node, usize, Vec<u8>),
    Name(String, Node),
    Rename(String, String),
    Remove(String),
}

/// The bytes on a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pub(super) names: BTreeMap<String, Node>,
    pub(super) files: BTreeMap<Node, Vec<u8>>,
}

impl Image {
    /// Does it, up to `bytes` of it.
    pub(super) fn apply(&mut self, op: &Op, bytes: usize) {
        match op {
            Op::Write(node, at, data) => {
                let file = self.files.entry(*node).or_default();
                let data = &data[..bytes.min(data.len())];
                if file.len() < at + data.len() {
                    file.resize(at + data.len(), 0);
                }
                file[*at..at + data.len()].copy_from_slice(data);
            }
            Op::Name(name, node) => {
                self.names.insert(name.clone(), *node);
                self.files.entry(*node).or_default();
            }
            Op::Rename(from, to) => {
                if let Some(node) = self.names.remove(from) {
                    self.names.insert(to.clone(), node);
                }
            }
            Op::Remove(name) => drop(self.names.remove(name)),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) flushed: Image,
    now: Image,
    next: Node,
    /// What was done since it was flushed.
    pub(super) pending: Vec<Op>,
    /// Before each flush: what was there for good, and what was under way; only if it is to be kept.
    pub(super) history: Option<Vec<(Image, Vec<Op>)>>,
    /// Bytes that may still be written.
    pub(super) room: Option<usize>,
}

/// The disk.
#[derive(Debug, Clone, Default)]
pub(super) struct CrashDisk(pub(super) Arc<Mutex<State>>);

impl CrashDisk {
    /// A disk on which this is.
    pub(super) fn with(image: Image) -> Self {
        let next = image.files.keys().max().map_or(0, |last| last + 1);
        let state = State {
            flushed: image.clone(),
            now: image,
            next,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn image(&self) -> Image {
        self.0.lock().now.clone()
    }
}

impl State {
    fn act(&mut self, op: Op) {
        self.now.apply(&op, usize::MAX);
        self.pending.push(op);
    }

    /// Flushes the operations that `of` names.
    fn flush(&mut self, of: impl Fn(&Op) -> bool) {
        if let Some(history) = &mut self.history {
            history.push((self.flushed.clone(), self.pending.clone()));
        }
        for op in std::mem::take(&mut self.pending) {
            match of(&op) {
                true => self.flushed.apply(&op, usize::MAX),
                false => self.pending.push(op),
            }
        }
    }
}

impl Folder for CrashDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().now.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Handle>> {
        let mut state = self.0.lock();
        let node = state.next;
        state.next += 1;
        state.act(Op::Name(name.to_owned(), node));
        Ok(Arc::new(CrashFile(self.clone(), node)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Handle>> {
        let node = self.0.lock().now.names.get(name).copied();
        let node = node.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(CrashFile(self.clone(), node)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.lock().act(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().act(Op::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().flush(|op| !matches!(op, Op::Write(..)));
        Ok(())
    }
}

struct CrashFile(CrashDisk, Node);

impl Handle for CrashFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().now.files.get(&self.1).map_or(0, Vec::len) as u64)
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let state = self.0.0.lock();
        let file = state.now.files.get(&self.1);
        let found = file.and_then(|file| file.get(at..at + out.len()));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.0.lock();
        let mut data = data.to_vec();
        let mut full = false;
        if let Some(room) = &mut state.room {
            full = *room < data.len();
            data.truncate(*room);
            *room -= data.len();
        }
        state.act(Op::Write(self.1, usize::try_from(at).unwrap(), data));
        match full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let node = self.1;
        self.0
            .0
            .lock()
            .flush(|op| matches!(op, Op::Write(of, ..) if *of == node));
        Ok(())
    }
}
