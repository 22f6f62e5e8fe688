//! The file store on disks that fail: writes after the last flush are lost, torn or swapped, the disk is full. What was
//! acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use jiff::Timestamp;
use pomerium_api::databroker::Error;

use super::crash_disk::{CrashDisk, Image, Op};
use super::folder::Folder;
use super::keeper::Work;
use super::{FileStore, OpenError, image, open, segment};
use crate::conformance::{CATS, deletion, record};
use crate::seal::Sealer;
use crate::store::{Store, Write, Written};

const KEY: [u8; 32] = [7; 32];
/// How many times a long history meets a power failure, unless [`ASKED`] says another number.
const FAILURES: u64 = 60;
/// `cargo xtask chaos` takes its time.
const ASKED: &str = "POMERIUM_CHAOS_FAILURES";

impl CrashDisk {
    fn open(&self) -> Result<FileStore, OpenError> {
        self.open_with(&[KEY])
    }

    fn open_with(&self, keys: &[[u8; 32]]) -> Result<FileStore, OpenError> {
        let (folder, sealer): (Arc<dyn Folder>, _) = (Arc::new(self.clone()), Arc::new(Sealer::new(keys)));
        let path = Path::new("a disk in memory");
        let found = open::within(&folder, path, &sealer)?;
        let mut store = FileStore::over(folder, found, sealer, None, path)?;
        drop(store.keeper.take());
        Ok(store)
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
    assert!(store.check().unwrap(), "{context}");
    let latest = now(store.counters()).unwrap().latest;
    assert_eq!(put(store, "new", "x").unwrap(), latest + 1, "{context}");
}

/// The thread's work, done here and now.
fn keeper(store: &FileStore) -> Work {
    let (folder, index) = (Arc::clone(&store.folder), Arc::clone(&store.index));
    let file = folder.open(image::NAME).unwrap();
    let Ok((about, _)) = image::read(&*file) else {
        panic!("the index cannot be read")
    };
    Work::new(folder, index, store.writer.jobs(), about)
}

/// Every state of the disk that a failure between two flushes can leave, closest in what decides whether a write counts.
fn torn(history: &[(Image, Vec<Op>)], mut look: impl FnMut(Image, &str)) -> usize {
    let mut images = 0;
    for (flush, (base, ops)) in history.iter().enumerate() {
        for (number, op) in ops.iter().enumerate() {
            for bytes in cuts(op) {
                let mut image = base.clone();
                ops[..number].iter().for_each(|op| image.apply(op, usize::MAX));
                image.apply(op, bytes);
                look(image, &format!("flush {flush}, write {number}, byte {bytes}"));
                images += 1;
            }
        }
    }
    images
}

/// Where a write is cut off: every few bytes in a short one, in a long one every so often, and in zeros never.
fn cuts(op: &Op) -> Vec<usize> {
    match op {
        Op::Write(_, _, data) => {
            let length = data
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            let step = if length <= 1024 { 5 } else { 211 };
            (0..=length).step_by(step).chain([length, data.len()]).collect()
        }
        _ => vec![0],
    }
}

/// Twenty records, and how they are known.
fn filled(disk: &CrashDisk) -> (FileStore, BTreeMap<String, String>) {
    let store = disk.open().unwrap();
    let mut acknowledged = BTreeMap::new();
    for i in 0..20 {
        let id = i.to_string();
        put(&store, &id, &"x".repeat(300)).unwrap();
        acknowledged.insert(id, "x".repeat(300));
    }
    (store, acknowledged)
}

#[test]
fn a_torn_write_loses_nothing_that_was_acknowledged() {
    let disk = CrashDisk::default();
    let (store, acknowledged) = filled(&disk);
    disk.0.lock().history = Some(Vec::new());
    put(&store, "last", "whole").unwrap();
    let history = disk.0.lock().history.take().unwrap();
    drop(store);
    let images = torn(&history, |image, context| {
        let store = CrashDisk::with(image)
            .open()
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        let last = data(&store, "last");
        assert!(matches!(last.as_deref(), None | Some("whole")), "{context}");
        check(&store, &acknowledged, context);
    });
    assert!(images > 30, "{images} images");
}

/// The first opening, the first write, and writing the index, each cut off anywhere.
#[test]
fn a_beginning_and_an_index_may_be_cut_off() {
    let disk = CrashDisk::default();
    disk.0.lock().history = Some(Vec::new());
    let (store, acknowledged) = filled(&disk);
    let begun = disk.0.lock().history.replace(Vec::new()).unwrap();
    keeper(&store).write_index().unwrap();
    put(&store, "last", "whole").unwrap();
    let tidied = disk.0.lock().history.take().unwrap();
    drop(store);
    let images = torn(&begun[..6], |image, context| {
        let store = CrashDisk::with(image)
            .open()
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        check(&store, &BTreeMap::new(), context);
    });
    assert!(images > 30, "{images} images");
    let images = torn(&tidied, |image, context| {
        let store = CrashDisk::with(image)
            .open()
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        check(&store, &acknowledged, context);
    });
    assert!(images > 30, "{images} images");
}

/// Sealing with a new key is whole or not at all.
#[test]
fn a_change_of_the_key_may_be_cut_off() {
    const NEW: [u8; 32] = [8; 32];
    let disk = CrashDisk::default();
    let (store, acknowledged) = filled(&disk);
    drop(store);
    disk.0.lock().history = Some(Vec::new());
    drop(disk.open_with(&[NEW, KEY]).unwrap());
    let history = disk.0.lock().history.take().unwrap();
    let mut with_former = 0;
    let images = torn(&history, |image, context| {
        let keys = match CrashDisk::with(image.clone()).open_with(&[KEY]) {
            Ok(store) => {
                with_former += 1;
                check(&store, &acknowledged, context);
                [NEW, KEY].to_vec()
            }
            Err(error) => {
                assert!(matches!(error, OpenError::WrongKey { .. }), "{context}: {error}");
                [NEW].to_vec()
            }
        };
        let store = CrashDisk::with(image)
            .open_with(&keys)
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        check(&store, &acknowledged, context);
    });
    assert!(
        images > 30 && with_former > 10,
        "{with_former} of {images} images"
    );
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

/// Power fails again and again; of what was not flushed, any part of the contents is there, in any order.
#[test]
fn lost_torn_and_reordered_writes_lose_nothing_that_was_acknowledged() {
    let mut random = Random(0x5eed_1234_abcd_0001);
    let mut disk = CrashDisk::default();
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
        // What comes now does not come to its end: its flush does not.
        disk.0.lock().history = Some(Vec::new());
        if random.below(3) == 0 {
            keeper(&store).write_index().unwrap();
        }
        put(&store, "unacknowledged", &round.to_string()).unwrap();
        let history = disk.0.lock().history.take().unwrap();
        drop(store);
        let (mut image, ops) = history[random.below(history.len())].clone();
        let (mut writes, names): (Vec<Op>, Vec<Op>) =
            ops.into_iter().partition(|op| matches!(op, Op::Write(..)));
        // Names come in order, as file systems with a journal have it.
        let names_there = random.below(names.len() + 1);
        names[..names_there]
            .iter()
            .for_each(|op| image.apply(op, usize::MAX));
        while !writes.is_empty() {
            let op = writes.swap_remove(random.below(writes.len()));
            match (random.below(3), &op) {
                (0, _) => {}
                (1, Op::Write(_, _, data)) => image.apply(&op, random.below(data.len().max(1))),
                _ => image.apply(&op, usize::MAX),
            }
        }
        disk = CrashDisk::with(image);
    }
}

/// Changes a byte of the newest segment, counted from the start of the `nth` frame.
fn damage(disk: &CrashDisk, nth: usize) -> CrashDisk {
    let mut image = disk.image();
    let name = segment::name(1);
    let file = disk.open_file(&name);
    let head = segment::Head::read(&*file).unwrap().unwrap();
    let (mut at, end) = (segment::HEAD, file.length().unwrap());
    for _ in 0..nth {
        at = segment::frame(&*file, &head, at, end).unwrap().unwrap().next;
    }
    let node = image.names[&name];
    image.files.get_mut(&node).unwrap()[usize::try_from(at).unwrap() + 40] ^= 1;
    CrashDisk::with(image)
}

impl CrashDisk {
    fn open_file(&self, name: &str) -> Arc<dyn super::folder::Handle> {
        Folder::open(self, name).unwrap()
    }
}

/// A damage is not taken for the end.
#[test]
fn a_damaged_write_with_others_behind_it_is_told() {
    let disk = CrashDisk::default();
    let (store, _) = filled(&disk);
    drop(store);
    for nth in [0, 7, 18] {
        let refused = damage(&disk, nth).open().err().expect("it is damaged");
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("databroker.0000000001.records is damaged at byte"),
            "{text}"
        );
        assert!(text.contains("whole writes follow"), "{text}");
        assert!(text.contains("restore a backup"), "{text}");
    }
    let store = damage(&disk, 19).open().expect("the last one may be torn");
    assert_eq!(data(&store, "18"), Some("x".repeat(300)));
    assert_eq!(data(&store, "19"), None);
}

#[test]
fn a_segment_or_an_index_that_is_gone_or_damaged_is_told() {
    let disk = CrashDisk::default();
    let (store, acknowledged) = filled(&disk);
    let mut work = keeper(&store);
    work.write_index().unwrap();
    put(&store, "20", "x").unwrap();
    work.write_index().unwrap();
    put(&store, "21", "x").unwrap();
    drop(store);
    check(
        &CrashDisk::with(disk.image()).open().unwrap(),
        &acknowledged,
        "whole",
    );
    for gone in [1, 2, 3] {
        let mut image = disk.image();
        image.names.remove(&segment::name(gone));
        let refused = CrashDisk::with(image).open().err();
        match (gone, refused) {
            // There is no telling whether it ever was: the index says that it begins there.
            (3, refused) => assert!(refused.is_none_or(|refused| refused.to_string().contains("missing"))),
            (_, refused) => {
                let refused = refused.expect("a segment is missing").to_string();
                assert!(refused.contains(&segment::name(gone)), "{refused}");
            }
        }
    }
    let mut image = disk.image();
    image.names.remove(image::NAME);
    let refused = CrashDisk::with(image)
        .open()
        .err()
        .expect("the index is gone")
        .to_string();
    assert!(refused.contains("databroker.index is missing"), "{refused}");
    let mut image = disk.image();
    let node = image.names[image::NAME];
    image.files.get_mut(&node).unwrap()[100] ^= 1;
    let refused = CrashDisk::with(image).open().err().expect("a damage").to_string();
    assert!(refused.contains("its checksum does not hold"), "{refused}");
}

#[test]
fn a_full_disk_costs_the_writes_of_that_while() {
    let disk = CrashDisk::default();
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
    let segments = disk.image().names.len();
    assert!(segments < 20, "{segments} files");
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
    let disk = CrashDisk::default();
    let store = disk.open().unwrap();
    put(&store, "tom", "x").unwrap();
    disk.0.lock().room = Some(0);
    let big = "x".repeat(300_000);
    let writes = (0..10).map(|i| {
        store.write(
            Write::Put(vec![record(CATS, &i.to_string(), &big)]),
            Timestamp::UNIX_EPOCH,
        )
    });
    let answers = now(futures_util::future::join_all(writes));
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 10);
    disk.0.lock().room = None;
    put(&store, "kit", "x").unwrap();
    assert_eq!(data(&store, "tom").as_deref(), Some("x"));
}

/// What is deleted or replaced gives its room back, and what is left is moved.
#[test]
fn dead_segments_go() {
    let disk = CrashDisk::default();
    let store = disk.open().unwrap();
    let mut work = keeper(&store);
    let big = "x".repeat(20_000);
    let mut acknowledged = BTreeMap::new();
    for i in 0..120 {
        put(&store, &i.to_string(), &big).unwrap();
        if i % 40 == 39 {
            work.write_index().unwrap();
        }
    }
    for i in 0..120 {
        if i % 5 == 0 {
            acknowledged.insert(i.to_string(), big.clone());
        } else {
            let gone = Write::Put(vec![deletion(CATS, &i.to_string())]);
            now(store.write(gone, Timestamp::UNIX_EPOCH)).unwrap();
        }
    }
    // The newest change stays, whatever its age, and with it its segment.
    work.write_index().unwrap();
    put(&store, "last", "small").unwrap();
    acknowledged.insert("last".to_owned(), "small".to_owned());
    let bytes = || -> usize {
        let image = disk.image();
        image.names.values().map(|node| image.files[node].len()).sum()
    };
    let before = bytes();
    work.tidy().unwrap();
    assert!(bytes() >= before, "the change log still has everything");
    let later = Write::Trim(Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(1));
    now(store.write(later, Timestamp::UNIX_EPOCH)).unwrap();
    work.tidy().unwrap();
    work.write_index().unwrap();
    work.tidy().unwrap();
    work.write_index().unwrap();
    assert!(bytes() < before / 3, "{before} bytes became {}", bytes());
    check(&store, &acknowledged, "moved");
    drop(store);
    let store = disk.open().unwrap();
    check(&store, &acknowledged, "opened again");
    now(store.write(Write::Clear, Timestamp::UNIX_EPOCH)).unwrap();
    put(&store, "one", "kept").unwrap();
    keeper(&store).write_index().unwrap();
    keeper(&store).write_index().unwrap();
    assert!(bytes() < 600_000, "{} bytes of an empty store", bytes());
    assert_eq!(data(&store, "one").as_deref(), Some("kept"));
}

/// Whoever reads while segments are emptied and go finds everything.
#[test]
fn readers_do_not_notice_the_keeper() {
    let disk = CrashDisk::default();
    let store = disk.open().unwrap();
    let big = "x".repeat(5_000);
    for i in 0..20 {
        put(&store, &i.to_string(), &big).unwrap();
    }
    let mut work = keeper(&store);
    std::thread::scope(|scope| {
        let tidying = scope.spawn(|| {
            for _ in 0..10 {
                work.write_index().unwrap();
                work.tidy().unwrap();
            }
        });
        let writing = scope.spawn(|| {
            for i in 0..100 {
                put(&store, &(i % 7).to_string(), &big).unwrap();
                let later = Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(1);
                now(store.write(Write::Trim(later), Timestamp::UNIX_EPOCH)).unwrap();
            }
        });
        while !(tidying.is_finished() && writing.is_finished()) {
            for i in 0..20 {
                assert_eq!(data(&store, &i.to_string()).as_ref(), Some(&big));
            }
            let inventory = now(store.inspect()).unwrap();
            assert_eq!(inventory.unreadable, Vec::<String>::new());
            assert_eq!(inventory.records[CATS], 20);
        }
    });
    drop(store);
    let all = (0..20).map(|i| (i.to_string(), big.clone())).collect();
    check(&disk.open().unwrap(), &all, "opened again");
}
