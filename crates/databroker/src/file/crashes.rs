//! The file store on disks that fail: writes after the last flush are lost, torn or swapped, the disk is full. What was
//! acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::databroker::Error;
use redb::{Builder, StorageBackend};

use super::disk::Disk;
use super::{FileStore, OpenError};
use crate::conformance::{CATS, record};
use crate::seal::Sealer;
use crate::store::{Store, Write, Written};

const KEY: [u8; 32] = [7; 32];
/// How many times a long history meets a power failure, unless [`ASKED`] says another number.
const FAILURES: u64 = 60;
/// `cargo xtask chaos` takes its time.
const ASKED: &str = "POMERIUM_CHAOS_FAILURES";

/// A disk in memory that knows what has not been flushed.
#[derive(Debug, Clone, Default)]
struct TestDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    flushed: Vec<u8>,
    now: Vec<u8>,
    /// What was done since the flush.
    pending: Vec<Op>,
    /// What was done before each flush; only if it is to be kept.
    history: Option<Vec<Vec<Op>>>,
    /// Bytes that may still be written.
    room: Option<usize>,
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Op {
    /// Does it, up to `bytes` of it.
    fn apply(&self, image: &mut Vec<u8>, bytes: usize) {
        match self {
            Self::Length(length) => image.resize(*length, 0),
            Self::Write(at, data) => {
                let data = &data[..bytes.min(data.len())];
                if image.len() < at + data.len() {
                    image.resize(at + data.len(), 0);
                }
                image[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl TestDisk {
    fn with(image: Vec<u8>) -> Self {
        let state = State {
            flushed: image.clone(),
            now: image,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn open(&self) -> Result<FileStore, OpenError> {
        let (disk, sealer) = (self.clone(), Arc::new(Sealer::new(&[KEY])));
        let opener = move || {
            Builder::new()
                .set_cache_size(1 << 20)
                .create_with_backend(disk.clone())
        };
        let folder = Path::new("a disk in memory");
        let disk = Disk::open_with(folder, Box::new(opener), Arc::clone(&sealer))?;
        FileStore::over(disk, sealer, None, folder)
    }
}

impl StorageBackend for TestDisk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let at = usize::try_from(offset).unwrap();
        let state = self.0.lock();
        let found = state.now.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let op = Op::Length(usize::try_from(len).unwrap());
        let mut state = self.0.lock();
        op.apply(&mut state.now, 0);
        state.pending.push(op);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        state.flushed = state.now.clone();
        let done = std::mem::take(&mut state.pending);
        if let Some(history) = &mut state.history {
            history.push(done);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        if let Some(room) = state.room {
            state.room = Some(room.checked_sub(data.len()).ok_or(io::ErrorKind::StorageFull)?);
        }
        let op = Op::Write(usize::try_from(offset).unwrap(), data.to_vec());
        op.apply(&mut state.now, usize::MAX);
        state.pending.push(op);
        Ok(())
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn put(store: &FileStore, id: &str, data: &str) -> Result<u64, Error> {
    let write = Write::Put(vec![record(CATS, id, data)]);
    match now(store.write(write, Timestamp::UNIX_EPOCH))? {
        Written::Put(reply) => Ok(reply.records[0].version),
        other => panic!("{other:?}"),
    }
}

fn data(store: &FileStore, id: &str) -> Option<String> {
    let found = store.get(CATS, id).now_or_never().unwrap().unwrap()?;
    Some(String::from_utf8(found.data.unwrap().value).unwrap())
}

/// Whole, and takes new writes.
fn check(store: &FileStore, acknowledged: &BTreeMap<String, String>, context: &str) {
    for (id, expected) in acknowledged {
        assert_eq!(data(store, id).as_ref(), Some(expected), "{context}: {id}");
    }
    let inventory = now(store.inspect()).unwrap();
    assert_eq!(inventory.unreadable, Vec::<String>::new(), "{context}");
    let latest = now(store.counters()).unwrap().latest;
    assert_eq!(put(store, "new", "x").unwrap(), latest + 1, "{context}");
}

/// The last transaction is cut off at every write and within each, closest in what decides whether it counts.
#[test]
fn a_torn_write_loses_nothing_that_was_acknowledged() {
    let disk = TestDisk::default();
    let store = disk.open().unwrap();
    let mut acknowledged = BTreeMap::new();
    for i in 0..20 {
        let id = i.to_string();
        put(&store, &id, &"x".repeat(300)).unwrap();
        acknowledged.insert(id, "x".repeat(300));
    }
    let before = disk.0.lock().flushed.clone();
    disk.0.lock().history = Some(Vec::new());
    put(&store, "last", "whole").unwrap();
    let flushes = disk.0.lock().history.take().unwrap();
    drop(store);

    let (mut base, mut images) = (before, 0);
    for (flush, ops) in flushes.iter().enumerate() {
        for (number, op) in ops.iter().enumerate() {
            for bytes in cuts(op) {
                let mut image = base.clone();
                ops[..number]
                    .iter()
                    .for_each(|op| op.apply(&mut image, usize::MAX));
                op.apply(&mut image, bytes);
                let context = format!("flush {flush}, write {number}, byte {bytes}");
                let store = TestDisk::with(image)
                    .open()
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(
                    matches!(data(&store, "last").as_deref(), None | Some("whole")),
                    "{context}"
                );
                check(&store, &acknowledged, &context);
                images += 1;
            }
        }
        ops.iter().for_each(|op| op.apply(&mut base, usize::MAX));
    }
    assert!(images > 100, "{images} images");
}

/// Where a write is cut off: every few bytes in a short one, in a page every so often.
fn cuts(op: &Op) -> Vec<usize> {
    match op {
        Op::Length(_) => vec![0],
        Op::Write(_, data) if data.len() <= 512 => (0..=data.len()).step_by(3).collect(),
        Op::Write(_, data) => (0..=data.len()).step_by(509).chain([data.len()]).collect(),
    }
}

/// A small generator: a failure is repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Power fails again and again; of what was not flushed, any part is there, in any order.
#[test]
fn lost_torn_and_reordered_writes_lose_nothing_that_was_acknowledged() {
    let mut random = Random(0x5eed_1234_abcd_0001);
    let mut disk = TestDisk::default();
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let asked = std::env::var(ASKED).map(|number| number.parse().expect("a number of power failures"));
    for round in 0..asked.unwrap_or(FAILURES) {
        let context = format!("failure {round}");
        let store = disk.open().unwrap_or_else(|error| panic!("{context}: {error}"));
        check(&store, &acknowledged, &context);
        for _ in 0..1 + random.below(6) {
            let id = random.below(12).to_string();
            let value = format!("{round}-{}", "y".repeat(random.below(900)));
            put(&store, &id, &value).unwrap();
            acknowledged.insert(id, value);
        }
        // The next write never comes to its end: its flush does not.
        let copy = disk.0.lock().clone();
        disk.0.lock().history = Some(Vec::new());
        put(&store, "unacknowledged", &round.to_string()).unwrap();
        let flushes = disk.0.lock().history.take().unwrap();
        drop(store);
        let mut image = copy.flushed;
        let whole = random.below(flushes.len());
        for op in flushes[..whole].iter().flatten() {
            op.apply(&mut image, usize::MAX);
        }
        let mut torn: Vec<&Op> = flushes[whole].iter().collect();
        while !torn.is_empty() {
            let op = torn.swap_remove(random.below(torn.len()));
            match (random.below(3), op) {
                (0, _) => {}
                (1, Op::Write(_, data)) => op.apply(&mut image, random.below(data.len())),
                _ => op.apply(&mut image, usize::MAX),
            }
        }
        disk = TestDisk::with(image);
    }
}

#[test]
fn a_full_disk_costs_the_writes_of_that_while() {
    let disk = TestDisk::default();
    let store = disk.open().unwrap();
    put(&store, "before", "kept").unwrap();
    let mut refused = 0;
    for room in [0, 100, 3_000, 5_000, 9_000, 20_000] {
        disk.0.lock().room = Some(room);
        for i in 0..20 {
            if let Err(error) = put(&store, &format!("{room}-{i}"), &"z".repeat(2_000)) {
                assert!(
                    matches!(&error, Error::Unavailable(why) if why.starts_with("file store")),
                    "{error}"
                );
                refused += 1;
            }
        }
        disk.0.lock().room = None;
        put(&store, &format!("after {room}"), "kept").expect("there is room again");
        assert_eq!(data(&store, "before").as_deref(), Some("kept"));
    }
    assert!(refused > 20, "{refused} writes met a full disk");
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    for room in [0, 100, 3_000, 5_000, 9_000, 20_000] {
        acknowledged.insert(format!("after {room}"), "kept".into());
    }
    check(&store, &acknowledged, "afterwards");
    drop(store);
    check(&disk.open().unwrap(), &acknowledged, "opened again");
}

/// The writes that fail together are answered once each, and none of them is made twice.
#[test]
fn a_failed_commit_answers_everybody() {
    let disk = TestDisk::default();
    let store = disk.open().unwrap();
    put(&store, "tom", "x").unwrap();
    disk.0.lock().room = Some(0);
    let writes = (0..10).map(|i| {
        store.write(
            Write::Put(vec![record(CATS, &i.to_string(), "x")]),
            Timestamp::UNIX_EPOCH,
        )
    });
    let answers = now(futures_util::future::join_all(writes));
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 10);
    disk.0.lock().room = None;
    put(&store, "kit", "x").unwrap();
    assert_eq!(data(&store, "tom").as_deref(), Some("x"));
}

#[test]
fn an_empty_file_gives_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path(), &[]).unwrap();
    let big = "x".repeat(200_000);
    for i in 0..40 {
        put(&store, &i.to_string(), &big).unwrap();
    }
    now(store.write(Write::Clear, Timestamp::UNIX_EPOCH)).unwrap();
    put(&store, "one", "kept").unwrap();
    let length = || {
        std::fs::metadata(folder.path().join("databroker.redb"))
            .unwrap()
            .len()
    };
    let before = length();
    store.disk.compact(before);
    assert!(length() < before / 4, "{before} bytes became {}", length());
    assert_eq!(data(&store, "one").as_deref(), Some("kept"));
}
