//! Files of former versions, made here as those versions made them.

use std::path::Path;

use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use pomerium_api::databroker::{Options, Record, Versions};
use pomerium_api::records::to_proto_time;
use prost::Message;

use super::former::{ABOUT, LEASES, LIVE, LOG, NAME, NUMBERS, OPTIONS, SERVICES};
use super::{FileStore, OpenError};
use crate::conformance::{CATS, record};
use crate::seal::{Place, Sealer};
use crate::store::{Counters, Standing, Store, Write, Written};

const KEY: [u8; 32] = [7; 32];

fn stored(id: &str, version: u64, data: &str) -> Record {
    Record {
        version,
        modified_at: Some(to_proto_time(Timestamp::UNIX_EPOCH)),
        ..record(CATS, id, data)
    }
}

/// Three records, the last of them in the change log.
fn make_former(folder: &Path, format: &str, swapped: bool) {
    let sealer = Sealer::new(&[KEY]);
    let database = redb::Database::create(folder.join(NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut about = transaction.open_table(ABOUT).unwrap();
        about.insert("format", format.as_bytes()).unwrap();
        about
            .insert("key_check", sealer.key_check().unwrap().as_slice())
            .unwrap();
        let mut numbers = transaction.open_table(NUMBERS).unwrap();
        for (name, number) in [("server_version", 77), ("latest", 3), ("trimmed", 2)] {
            numbers.insert(name, number).unwrap();
        }
        let mut live = transaction.open_table(LIVE).unwrap();
        for (id, version) in [("kit", 1), ("tim", 2), ("tom", 3)] {
            let place = Place::Live {
                record_type: CATS,
                id,
            };
            let value = sealer.seal(&stored(id, version, id), &place);
            let id = if swapped && id == "kit" { "kim" } else { id };
            live.insert((CATS, id), value.as_slice()).unwrap();
        }
        let mut log = transaction.open_table(LOG).unwrap();
        let change = sealer.seal(&stored("tom", 3, "tom"), &Place::Change(3));
        log.insert(3, (0, CATS, change.as_slice())).unwrap();
        if format == "2" {
            let mut options = transaction.open_table(OPTIONS).unwrap();
            let three = Options {
                capacity: Some(3),
                ..Options::default()
            };
            options.insert(CATS, three.encode_to_vec().as_slice()).unwrap();
            let mut leases = transaction.open_table(LEASES).unwrap();
            leases.insert("job", ("me", 5_000_000)).unwrap();
            let mut services = transaction.open_table(SERVICES).unwrap();
            services.insert((1, "a:1"), 5_000_000).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder, &[KEY]).unwrap()
}

#[tokio::test]
async fn a_file_of_format_2_is_read() {
    let folder = tempfile::tempdir().unwrap();
    make_former(folder.path(), "2", false);
    assert!(FileStore::is_in(folder.path()));
    let expected = Counters {
        server_version: 77,
        latest: 3,
        trimmed: 2,
        standing: Standing::Own,
        term: 0,
    };
    for round in ["upgraded", "opened again"] {
        let store = open(folder.path());
        assert_eq!(store.counters().await.unwrap(), expected, "{round}");
        let (_, records) = store.latest("").await.unwrap();
        let records: Vec<_> = records.map(Result::unwrap).collect().await;
        let all = [("kit", 1), ("tim", 2), ("tom", 3)].map(|(id, version)| stored(id, version, id));
        assert_eq!(records, all, "{round}");
        let from = Versions {
            server_version: 77,
            latest_record_version: 2,
        };
        let changes = store.changes("", from, 10).await.unwrap();
        assert_eq!(changes.records, [stored("tom", 3, "tom")], "{round}");
        let options = store.options(CATS).await.unwrap().unwrap();
        assert_eq!(options.capacity, Some(3), "{round}");
        let services = store.services(Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(services[0].endpoint, "a:1", "{round}");
        let inventory = store.inspect().await.unwrap();
        assert_eq!(inventory.unreadable, Vec::<String>::new(), "{round}");
    }
    // A former version finds a file there that it does not take for an empty one.
    let left = redb::Database::create(folder.path().join(NAME));
    assert!(left.is_err(), "a database is still there");
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "databroker.0000000001.records",
            "databroker.0000000002.records",
            "databroker.index",
            "databroker.lock",
            "databroker.redb"
        ]
    );
}

/// The capacity of the former file counts for what comes.
#[tokio::test]
async fn an_upgraded_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    make_former(folder.path(), "2", false);
    let store = open(folder.path());
    let put = Write::Put(vec![record(CATS, "new", "x")]);
    let written = store.write(put, Timestamp::UNIX_EPOCH).await.unwrap();
    assert!(matches!(written, Written::Put(reply) if reply.records[0].version == 4));
    assert_eq!(
        store.get(CATS, "kit").await.unwrap(),
        None,
        "the oldest made room"
    );
    assert!(store.get(CATS, "tim").await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_of_format_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    make_former(folder.path(), "1", false);
    let store = open(folder.path());
    assert_eq!(
        store.get(CATS, "tom").await.unwrap(),
        Some(stored("tom", 3, "tom"))
    );
    assert_eq!(store.options(CATS).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_with_a_record_that_cannot_be_read_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    make_former(folder.path(), "2", true);
    let store = open(folder.path());
    assert_eq!(store.get(CATS, "kim").await.unwrap(), None);
    assert!(store.get(CATS, "tom").await.unwrap().is_some());
    assert!(folder.path().join("databroker.redb.former").exists());
}

#[test]
fn an_upgrade_that_was_interrupted_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    make_former(folder.path(), "2", false);
    std::fs::write(folder.path().join("databroker.0000000001.records"), "half of it").unwrap();
    std::fs::write(folder.path().join("databroker.index.new"), "half of it").unwrap();
    let store = open(folder.path());
    let tom = store.get(CATS, "tom").now_or_never().unwrap().unwrap();
    assert_eq!(tom, Some(stored("tom", 3, "tom")));
}

#[test]
fn keys_and_formats_of_former_files_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    make_former(folder.path(), "2", false);
    let refused = |keys: &[[u8; 32]]| FileStore::open(folder.path(), keys).err().unwrap();
    assert!(matches!(refused(&[[8; 32]]), OpenError::WrongKey { .. }));
    assert!(matches!(refused(&[]), OpenError::MissingKey { .. }));
    drop(FileStore::open(folder.path(), &[[8; 32], KEY]).unwrap());
    let store = FileStore::open(folder.path(), &[[8; 32]]).unwrap();
    assert!(store.get(CATS, "tom").now_or_never().unwrap().unwrap().is_some());

    let later = tempfile::tempdir().unwrap();
    make_former(later.path(), "9", false);
    let refused = FileStore::open(later.path(), &[KEY]).err().unwrap();
    assert!(
        matches!(&refused, OpenError::Format { found, .. } if found == "9"),
        "{refused}"
    );
}

#[test]
fn an_unfinished_file_is_passed_over_and_a_foreign_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    std::fs::write(&path, [0; 4096]).unwrap();
    drop(open(folder.path()));
    let foreign = tempfile::tempdir().unwrap();
    let path = foreign.path().join(NAME);
    std::fs::write(&path, "someone's letters").unwrap();
    let refused = FileStore::open(foreign.path(), &[KEY]).err().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    assert_eq!(
        std::fs::read(&path).unwrap(),
        b"someone's letters",
        "it is left alone"
    );
}
