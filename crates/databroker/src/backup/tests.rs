use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use pomerium_api::databroker::{Databroker, Options, Record, Versions};

use super::{BackupError, Checked, check, write};
use crate::conformance::{CATS, DOGS, Subject, all_latest, deletion, record};
use crate::store::{Copy, Standing, Store, Write, ready};
use crate::{FileStore, MemoryStore, PostgresStore};

const KEY: [u8; 32] = [5; 32];
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A databroker with records, options and a history, and its backup.
async fn backed_up(folder: &Path) -> (Subject<MemoryStore>, PathBuf) {
    let subject = Subject::new(MemoryStore::new());
    for i in 0..300 {
        let kind = if i % 3 == 0 { DOGS } else { CATS };
        subject
            .broker
            .put(vec![record(kind, &format!("{i:03}"), "x")])
            .await
            .unwrap();
    }
    subject
        .broker
        .put(vec![deletion(CATS, "001"), record("", "", "nameless")])
        .await
        .unwrap();
    let options = Options {
        capacity: Some(500),
        ..Options::default()
    };
    for record_type in [CATS, "example.com/none-of-these"] {
        let options = subject.broker.set_options(record_type.into(), options.clone());
        options.await.unwrap();
    }
    let path = folder.join("backup");
    write(&*subject.broker, &path, &KEY, NOW).await.unwrap();
    (subject, path)
}

async fn restored<S: Store>(checked: &Checked, store: S) -> Subject<S> {
    checked.restore(&store, NOW).await.unwrap();
    ready(&store).await.unwrap();
    Subject::new(store)
}

#[tokio::test]
async fn what_was_backed_up_comes_back_in_every_store() {
    let folder = tempfile::tempdir().unwrap();
    let (subject, path) = backed_up(folder.path()).await;
    let checked = check(&path, &[[6; 32], KEY]).unwrap();
    let summary = checked.summary();
    assert_eq!(summary.records[CATS], 199);
    assert_eq!(summary.records[DOGS], 100);
    assert_eq!(summary.records[""], 1);
    assert_eq!(summary.versions, subject.broker.versions().await.unwrap());

    let file = FileStore::open(&folder.path().join("store"), &[KEY]).unwrap();
    let postgres = PostgresStore::open(&crate::postgres::fresh_database().await, &[KEY])
        .await
        .unwrap();
    let (expected, before) = all_latest(&*subject.broker, "").await;
    let brokers: [Arc<dyn Databroker>; 3] = [
        restored(&checked, MemoryStore::new()).await.broker,
        restored(&checked, file).await.broker,
        restored(&checked, postgres).await.broker,
    ];
    for broker in brokers {
        let (records, at) = all_latest(&*broker, "").await;
        assert_eq!(records, expected);
        assert_ne!(
            at.server_version, before.server_version,
            "whoever knew the former database starts over"
        );
        assert_eq!(at.latest_record_version, before.latest_record_version);
        assert_eq!(
            broker.all_options().await.unwrap(),
            subject.broker.all_options().await.unwrap()
        );
        let next = broker.put(vec![record(CATS, "next", "x")]).await.unwrap();
        assert_eq!(next.records[0].version, before.latest_record_version + 1);
    }
}

/// Somebody writes while the backup is made: it is of one moment all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(FileStore::open(&folder.path().join("store"), &[KEY]).unwrap());
    let writer = {
        let broker = Arc::clone(&subject.broker);
        tokio::spawn(async move {
            for i in 0..400_u32 {
                // Always both or none.
                let pair = [CATS, DOGS].map(|kind| match i % 5 {
                    4 => deletion(kind, &(i % 23).to_string()),
                    _ => record(kind, &(i % 23).to_string(), &i.to_string()),
                });
                broker.put(pair.to_vec()).await.unwrap();
            }
        })
    };
    for i in 0..10 {
        let path = folder.path().join(format!("backup{i}"));
        write(&*subject.broker, &path, &KEY, NOW).await.unwrap();
        let checked = check(&path, &[KEY]).unwrap();
        let copy = restored(&checked, MemoryStore::new()).await;
        let values = |records: Vec<Record>| -> Vec<_> {
            records
                .into_iter()
                .map(|record| (record.id, record.data.map(|data| data.value)))
                .collect()
        };
        let (cats, _) = all_latest(&*copy.broker, CATS).await;
        let (dogs, _) = all_latest(&*copy.broker, DOGS).await;
        assert_eq!(values(cats), values(dogs), "backup {i}");
    }
    writer.await.unwrap();
}

/// Cut short anywhere, or with any byte changed: it is refused, and says what is wrong.
#[tokio::test]
async fn a_damaged_file_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (_, path) = backed_up(folder.path()).await;
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged");
    let refusal = |bytes: &[u8]| {
        std::fs::write(&damaged, bytes).unwrap();
        check(&damaged, &[KEY]).err()
    };
    for length in (0..whole.len()).step_by(101).chain([whole.len() - 1, 0, 20, 36]) {
        let error = refusal(&whole[..length]).expect("it is cut short");
        assert!(
            matches!(error, BackupError::Damaged { .. } | BackupError::Foreign(_)),
            "{length}: {error}"
        );
    }
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let error = refusal(&bytes).unwrap_or_else(|| panic!("byte {at} was changed"));
        assert!(!matches!(error, BackupError::WrongKey(_)), "byte {at}: {error}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(matches!(refusal(&longer), Some(BackupError::Damaged { .. })));
    let mut newer = whole;
    newer[19] = 9;
    let error = refusal(&newer).unwrap();
    assert!(matches!(error, BackupError::Newer { found: 9, .. }), "{error}");
    assert!(matches!(
        refusal(b"someone's letters, and more than a few of them"),
        Some(BackupError::Foreign(_))
    ));
    let error = check(&path, &[[6; 32]]).err().unwrap();
    assert!(
        matches!(error, BackupError::WrongKey(_)) && error.to_string().contains("--secret-file"),
        "{error}"
    );
    assert!(check(&path, &[KEY]).is_ok());
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (subject, path) = backed_up(folder.path()).await;
    let before = std::fs::read(&path).unwrap();
    let again = write(&*subject.broker, &path, &KEY, NOW).await;
    assert!(matches!(again, Err(BackupError::Exists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let full = Subject::new(MemoryStore::new());
    full.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let before = all_latest(&*full.broker, "").await;
    let store = MemoryStore::new();
    store
        .write(Write::Put(vec![record(CATS, "tom", "x")]), NOW)
        .now_or_never()
        .unwrap()
        .unwrap();
    let refused = check(&path, &[KEY]).unwrap().restore(&store, NOW).await;
    assert!(matches!(refused, Err(BackupError::NotEmpty(1))), "{refused:?}");
    assert_eq!(store.counters().await.unwrap().latest, 1);
    assert_eq!(all_latest(&*full.broker, "").await, before);
}

/// A restore that was killed: the store is not served half full, and the restore may be done again.
#[tokio::test]
async fn an_interrupted_restore_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let (subject, path) = backed_up(folder.path()).await;
    let store = FileStore::open(&folder.path().join("store"), &[KEY]).unwrap();
    store.write(Write::Copy(Copy::Begin), NOW).await.unwrap();
    let part = Copy::Part {
        after: None,
        records: vec![record(CATS, "half", "x")],
        last: false,
    };
    store.write(Write::Copy(part), NOW).await.unwrap();
    drop(store);
    let store = FileStore::open(&folder.path().join("store"), &[KEY]).unwrap();
    assert_eq!(store.counters().await.unwrap().standing, Standing::Incomplete);
    let refused = ready(&store).await.unwrap_err().to_string();
    assert!(refused.contains("not complete"), "{refused}");
    let copy = restored(&check(&path, &[KEY]).unwrap(), store).await;
    assert_eq!(
        all_latest(&*copy.broker, "").await.0,
        all_latest(&*subject.broker, "").await.0
    );
}

/// A databroker that fails half-way leaves no file that could be taken for a backup.
#[tokio::test]
async fn a_failed_backup_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(MemoryStore::new());
    subject.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    subject.server.close();
    let path = folder.path().join("backup");
    assert!(matches!(
        write(&*subject.broker, &path, &KEY, NOW).await,
        Err(BackupError::Store(_))
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// What is in the store is counted, and what cannot be read is named.
#[tokio::test]
async fn stores_can_be_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let connection = crate::postgres::fresh_database().await;
    let stores: [Arc<dyn Store>; 3] = [
        Arc::new(MemoryStore::new()),
        Arc::new(FileStore::open(folder.path(), &[KEY]).unwrap()),
        Arc::new(PostgresStore::open(&connection, &[KEY]).await.unwrap()),
    ];
    for store in stores {
        for i in 0..5 {
            let put = Write::Put(vec![record(CATS, &i.to_string(), "x"), record(DOGS, "rex", "x")]);
            store.write(put, NOW).await.unwrap();
        }
        let inventory = store.inspect().await.unwrap();
        assert_eq!(
            (
                inventory.records[CATS],
                inventory.records[DOGS],
                inventory.changes
            ),
            (5, 1, 10)
        );
        assert!(inventory.unreadable.is_empty());
    }
}

#[tokio::test]
async fn checkpoints_of_a_backup_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (subject, path) = backed_up(folder.path()).await;
    let copy = restored(&check(&path, &[KEY]).unwrap(), MemoryStore::new()).await;
    let former: Versions = subject.broker.versions().await.unwrap();
    let refused = copy
        .broker
        .sync("", former)
        .await
        .map(|stream| stream.map(drop).boxed());
    assert!(refused.is_err());
}
