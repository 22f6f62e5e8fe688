//! What every store must do under the server (spec databroker.md 18). Each store's tests name the suite
//! with [`conformance!`]; a new store gets all of it by one line.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, future};
use jiff::Timestamp;
use pomerium_api::clock::ManualClock;
use pomerium_api::databroker::{Databroker, Error, Latest, Record, RecordStream, Versions};
use prost_types::Any;

use crate::{RETENTION, Server, Store};

pub(crate) const CATS: &str = "example.com/cat";
pub(crate) const DOGS: &str = "example.com/dog";

/// The server under test, with the clock it goes by.
pub(crate) struct Subject<S> {
    pub(crate) server: Arc<Server<S>>,
    pub(crate) clock: ManualClock,
}

impl<S: Store> Subject<S> {
    pub(crate) fn new(store: S) -> Self {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH + RETENTION * 10);
        Self {
            server: Arc::new(Server::new(store, Arc::new(clock.clone()))),
            clock,
        }
    }

    async fn put(&self, record: Record) -> Record {
        self.server.put(vec![record]).await.unwrap().records.remove(0)
    }

    async fn sync_from(&self, record_type: &str, version: u64) -> RecordStream<Record> {
        let server_version = self.server.versions().await.unwrap().server_version;
        let from = Versions {
            server_version,
            latest_record_version: version,
        };
        self.server.sync(record_type, from).await.unwrap()
    }

    async fn resync(&self, from: Versions) -> bool {
        matches!(self.server.sync("", from).await, Err(Error::Resync))
    }
}

pub(crate) fn record(record_type: &str, id: &str, data: &str) -> Record {
    Record {
        r#type: record_type.into(),
        id: id.into(),
        data: Some(Any {
            type_url: record_type.into(),
            value: data.as_bytes().to_vec(),
        }),
        ..Record::default()
    }
}

pub(crate) fn deletion(record_type: &str, id: &str) -> Record {
    let deleted_at = Some(prost_types::Timestamp::default());
    Record {
        r#type: record_type.into(),
        id: id.into(),
        deleted_at,
        ..Record::default()
    }
}

pub(crate) async fn all_latest(server: &dyn Databroker, record_type: &str) -> (Vec<Record>, Versions) {
    let (mut records, mut versions) = (Vec::new(), Vec::new());
    let mut stream = server.sync_latest(record_type).await.unwrap();
    while let Some(item) = stream.next().await {
        match item.unwrap() {
            Latest::Record(record) => {
                assert!(versions.is_empty(), "a record came after the versions");
                records.push(record);
            }
            Latest::Versions(at) => versions.push(at),
        }
    }
    assert_eq!(versions.len(), 1);
    (records, versions.remove(0))
}

fn data(record: &Record) -> &str {
    std::str::from_utf8(&record.data.as_ref().unwrap().value).unwrap()
}

pub(crate) async fn unknown_record_is_not_found<S: Store>(subject: Subject<S>) {
    assert_eq!(subject.server.get(CATS, "tom").await, Err(Error::NotFound));
    subject.put(record(DOGS, "tom", "a dog")).await;
    assert_eq!(subject.server.get(CATS, "tom").await, Err(Error::NotFound));
}

pub(crate) async fn put_assigns_versions_and_times<S: Store>(subject: Subject<S>) {
    let mut liar = record(CATS, "tom", "x");
    liar.version = 77;
    liar.modified_at = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let reply = subject
        .server
        .put(vec![liar, record(DOGS, "rex", "y")])
        .await
        .unwrap();
    assert_ne!(reply.server_version, 0);
    assert_eq!(
        reply
            .records
            .iter()
            .map(|record| record.version)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let now = pomerium_api::records::to_proto_time(Timestamp::UNIX_EPOCH + RETENTION * 10);
    for stored in &reply.records {
        assert_eq!(stored.modified_at.as_ref(), Some(&now));
        assert_eq!(stored.deleted_at, None);
        assert_eq!(
            subject.server.get(&stored.r#type, &stored.id).await.as_ref(),
            Ok(stored)
        );
    }
    let versions = subject.server.versions().await.unwrap();
    assert_eq!(
        versions,
        Versions {
            server_version: reply.server_version,
            latest_record_version: 2
        }
    );
}

pub(crate) async fn odd_records_are_kept<S: Store>(subject: Subject<S>) {
    let empty = Record {
        id: "a".into(),
        data: Some(Any::default()),
        ..Record::default()
    };
    let nameless = Record {
        r#type: CATS.into(),
        ..Record::default()
    };
    for odd in [
        empty,
        nameless,
        record("", "", "both empty"),
        record(CATS, "ä\0/\u{1F408}", "odd id"),
    ] {
        let stored = subject.put(odd.clone()).await;
        assert_eq!(stored.data, odd.data);
        assert_eq!(subject.server.get(&odd.r#type, &odd.id).await.unwrap(), stored);
    }
    assert_eq!(all_latest(&*subject.server, "").await.0.len(), 4);
}

pub(crate) async fn a_put_is_all_or_nothing<S: Store>(subject: Subject<S>) {
    let large = "x".repeat(5 * 1024 * 1024);
    let put = subject
        .server
        .put(vec![record(CATS, "tom", "x"), record(CATS, "big", &large)])
        .await;
    assert!(matches!(put, Err(Error::Invalid(_))), "{put:?}");
    assert_eq!(subject.server.get(CATS, "tom").await, Err(Error::NotFound));
    assert_eq!(subject.server.versions().await.unwrap().latest_record_version, 0);
    assert!(subject.server.put(Vec::new()).await.unwrap().records.is_empty());
}

pub(crate) async fn a_deletion_leaves_a_tombstone<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "tom", "grey")).await;
    let tombstone = subject.put(deletion(CATS, "tom")).await;
    assert_eq!(tombstone.version, 2);
    assert_eq!(
        data(&tombstone),
        "grey",
        "what went must be known to those who follow"
    );
    assert_eq!(subject.server.get(CATS, "tom").await, Err(Error::NotFound));
    assert!(all_latest(&*subject.server, "").await.0.is_empty());
    assert_eq!(subject.server.list(CATS, 0, 10).await.unwrap().total, 0);
    let changes: Vec<_> = subject.sync_from("", 1).await.take(1).collect().await;
    assert_eq!(changes, [Ok(tombstone)]);
    assert_eq!(subject.put(record(CATS, "tom", "back")).await.version, 3);
    assert_eq!(data(&subject.server.get(CATS, "tom").await.unwrap()), "back");
}

pub(crate) async fn deleting_what_is_not_there_changes_nothing<S: Store>(subject: Subject<S>) {
    subject.put(deletion(CATS, "ghost")).await;
    assert_eq!(subject.server.versions().await.unwrap().latest_record_version, 0);
    assert_eq!(subject.put(record(CATS, "tom", "x")).await.version, 1);
    let changes: Vec<_> = subject.sync_from("", 0).await.take(1).collect().await;
    assert_eq!(changes[0].as_ref().unwrap().id, "tom");
}

pub(crate) async fn latest_gives_each_record_once_in_order<S: Store>(subject: Subject<S>) {
    let ids: Vec<String> = (0..100).rev().map(|i| format!("{i:03}")).collect();
    for id in &ids {
        subject
            .put(record(if id.ends_with('3') { DOGS } else { CATS }, id, "1"))
            .await;
    }
    let records = ids.iter().map(|id| record(CATS, id, "2")).collect();
    subject.server.put(records).await.unwrap();
    let (records, versions) = all_latest(&*subject.server, "").await;
    let keys: Vec<_> = records
        .iter()
        .map(|record| (record.r#type.clone(), record.id.clone()))
        .collect();
    assert_eq!(keys.len(), 110);
    assert!(keys.is_sorted());
    assert_eq!(versions.latest_record_version, 200);
    let (dogs, _) = all_latest(&*subject.server, DOGS).await;
    assert_eq!(dogs.len(), 10);
    assert!(dogs.iter().all(|dog| dog.r#type == DOGS));
    assert!(
        all_latest(&*subject.server, "example.com/c").await.0.is_empty(),
        "no prefix match"
    );
}

pub(crate) async fn list_pages_literally<S: Store>(subject: Subject<S>) {
    for id in ["c", "a", "d", "b"] {
        subject.put(record(CATS, id, "x")).await;
    }
    subject.put(record(DOGS, "a", "x")).await;
    let ids = async |offset, limit| {
        let page = subject.server.list(CATS, offset, limit).await.unwrap();
        assert_eq!(page.total, 4);
        assert_eq!(page.versions.latest_record_version, 5);
        page.records
            .into_iter()
            .map(|record| record.id)
            .collect::<String>()
    };
    assert_eq!(ids(0, 10).await, "abcd");
    assert_eq!(ids(1, 2).await, "bc");
    assert_eq!(ids(0, 0).await, "");
    assert_eq!(ids(9, 10).await, "");
    assert_eq!(ids(3, u64::MAX).await, "d");
}

pub(crate) async fn sync_goes_on_with_what_comes<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "before", "x")).await;
    let mut stream = subject.sync_from("", 1).await;
    for i in 0..10 {
        subject
            .put(record(if i % 2 == 0 { CATS } else { DOGS }, &i.to_string(), "x"))
            .await;
        let change = stream.next().await.unwrap().unwrap();
        assert_eq!((change.id, change.version), (i.to_string(), i + 2));
    }
}

pub(crate) async fn sync_of_one_type_skips_the_others<S: Store>(subject: Subject<S>) {
    let mut stream = subject.sync_from(DOGS, 0).await;
    for i in 0..200 {
        subject
            .put(record(if i == 199 { DOGS } else { CATS }, &i.to_string(), "x"))
            .await;
    }
    assert_eq!(stream.next().await.unwrap().unwrap().version, 200);
}

pub(crate) async fn every_change_of_one_record_is_told<S: Store>(subject: Subject<S>) {
    for i in 0..5 {
        subject.put(record(CATS, "tom", &i.to_string())).await;
    }
    let changes: Vec<_> = subject
        .sync_from(CATS, 0)
        .await
        .take(5)
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(changes.iter().map(data).collect::<String>(), "01234");
}

/// Writers do not wait for a subscriber that does not read, and it misses nothing when it does.
pub(crate) async fn slow_readers_miss_nothing<S: Store>(subject: Subject<S>) {
    let stream = subject.sync_from("", 0).await;
    let writers = (0..4).map(|writer| {
        let server = subject.server.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                server
                    .put(vec![record(CATS, &format!("{writer}-{i}"), "x")])
                    .await
                    .unwrap();
            }
        })
    });
    future::try_join_all(writers).await.unwrap();
    let versions: Vec<_> = stream
        .take(200)
        .map(|change| change.unwrap().version)
        .collect()
        .await;
    assert_eq!(versions, (1..=200).collect::<Vec<_>>());
}

/// The latest records and the changes after them give the truth, however writes fall in between.
pub(crate) async fn latest_and_sync_leave_no_gap<S: Store>(subject: Subject<S>) {
    let server = subject.server.clone();
    let writer = tokio::spawn(async move {
        for i in 0..300_u64 {
            let id = (i % 7).to_string();
            let change = if i % 5 == 4 {
                deletion(CATS, &id)
            } else {
                record(CATS, &id, &i.to_string())
            };
            server.put(vec![change]).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..20 {
        let (records, at) = all_latest(&*subject.server, "").await;
        let mut seen: BTreeMap<_, _> = records
            .into_iter()
            .map(|record| (record.id.clone(), record))
            .collect();
        let until = subject.server.versions().await.unwrap().latest_record_version;
        let mut stream = subject.server.sync("", at).await.unwrap();
        for expected in at.latest_record_version + 1..=until {
            let change = stream.next().await.unwrap().unwrap();
            assert_eq!(change.version, expected);
            match change.deleted_at {
                Some(_) => assert!(seen.remove(&change.id).is_some(), "tombstone of an unseen record"),
                None => drop(seen.insert(change.id.clone(), change)),
            }
        }
    }
    writer.await.unwrap();
}

pub(crate) async fn replace_needs_the_version_read<S: Store>(subject: Subject<S>) {
    let first = subject.put(record(CATS, "tom", "1")).await;
    let edit = |old: &Record, text| Record {
        version: old.version,
        ..record(CATS, "tom", text)
    };
    let second = subject.server.replace(edit(&first, "2")).await.unwrap().unwrap();
    assert_eq!((second.version, data(&second)), (2, "2"));
    assert_eq!(subject.server.replace(edit(&first, "late")).await, Ok(None));
    assert_eq!(data(&subject.server.get(CATS, "tom").await.unwrap()), "2");
    subject.put(deletion(CATS, "tom")).await;
    assert_eq!(subject.server.replace(edit(&second, "undead")).await, Ok(None));
    assert_eq!(subject.server.get(CATS, "tom").await, Err(Error::NotFound));
    assert_eq!(subject.server.versions().await.unwrap().latest_record_version, 3);
}

/// Two who read, change and write back at the same time: nobody's change is lost.
pub(crate) async fn replace_loses_no_update<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "counter", "")).await;
    let workers = (0..2).map(|_| {
        let server = subject.server.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                loop {
                    let mut current = server.get(CATS, "counter").await.unwrap();
                    current.data.as_mut().unwrap().value.push(b'x');
                    if server.replace(current).await.unwrap().is_some() {
                        break;
                    }
                }
            }
        })
    });
    future::try_join_all(workers).await.unwrap();
    assert_eq!(
        data(&subject.server.get(CATS, "counter").await.unwrap()).len(),
        100
    );
}

pub(crate) async fn a_place_in_the_log_must_be_known<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "tom", "x")).await;
    let here = subject.server.versions().await.unwrap();
    assert!(!subject.resync(here).await);
    assert!(
        subject
            .resync(Versions {
                server_version: here.server_version ^ 1,
                ..here
            })
            .await
    );
    assert!(
        subject
            .resync(Versions {
                latest_record_version: 2,
                ..here
            })
            .await,
        "from the future"
    );
}

pub(crate) async fn old_changes_are_forgotten<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "a", "x")).await;
    subject.put(deletion(CATS, "a")).await;
    subject.clock.advance(RETENTION);
    subject.put(record(CATS, "b", "x")).await;
    assert_eq!(
        subject.server.trim().await,
        Ok(0),
        "an hour old is not older than an hour"
    );
    let slow = subject.sync_from("", 0).await;
    subject.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(subject.server.trim().await, Ok(2));
    let here = subject.server.versions().await.unwrap();
    assert!(
        subject
            .resync(Versions {
                latest_record_version: 1,
                ..here
            })
            .await
    );
    let rest: Vec<_> = subject
        .sync_from("", 2)
        .await
        .take(1)
        .map(|change| change.unwrap().id)
        .collect()
        .await;
    assert_eq!(rest, ["b"]);
    assert_eq!(
        slow.collect::<Vec<_>>().await,
        [Err(Error::Resync)],
        "told, not left with a gap"
    );
}

pub(crate) async fn only_history_is_forgotten<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "a", "x")).await;
    subject.put(record(CATS, "b", "x")).await;
    subject.clock.advance(RETENTION * 2);
    assert_eq!(subject.server.trim().await, Ok(2));
    assert_eq!(subject.server.trim().await, Ok(0));
    assert_eq!(subject.server.versions().await.unwrap().latest_record_version, 2);
    assert_eq!(
        subject.put(record(CATS, "c", "x")).await.version,
        3,
        "versions are never used again"
    );
    assert_eq!(all_latest(&*subject.server, "").await.0.len(), 3);
}

pub(crate) async fn clear_starts_a_new_database<S: Store>(subject: Subject<S>) {
    for id in ["a", "b", "c"] {
        subject.put(record(CATS, id, "x")).await;
    }
    let before = subject.server.versions().await.unwrap();
    let mut following = subject.server.sync("", before).await.unwrap();
    let waiting = tokio::spawn(async move { following.next().await });
    let server_version = subject.server.clear().await.unwrap();
    assert_ne!(server_version, before.server_version);
    assert_eq!(waiting.await.unwrap(), Some(Err(Error::Resync)));
    let (records, at) = all_latest(&*subject.server, "").await;
    assert!(records.is_empty());
    assert_eq!(
        at,
        Versions {
            server_version,
            latest_record_version: 0
        }
    );
    assert!(subject.resync(before).await);
    assert_eq!(subject.server.get(CATS, "a").await, Err(Error::NotFound));
}

pub(crate) async fn closing_ends_the_streams<S: Store>(subject: Subject<S>) {
    let mut waiting = subject.sync_from("", 0).await;
    let waiting = tokio::spawn(async move { (waiting.next().await, waiting.next().await) });
    let mut unread = subject.sync_from("", 0).await;
    subject.put(record(CATS, "tom", "x")).await;
    subject.server.close();
    assert!(matches!(unread.next().await, Some(Err(Error::Unavailable(_)))));
    assert_eq!(unread.next().await, None);
    let (first, second) = waiting.await.unwrap();
    let ended = [first, second]
        .into_iter()
        .flatten()
        .any(|item| matches!(item, Err(Error::Unavailable(_))));
    assert!(ended);
    assert!(matches!(
        subject.server.versions().await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(
        subject.server.put(vec![record(CATS, "x", "x")]).await,
        Err(Error::Unavailable(_))
    ));
}

pub(crate) async fn dropping_the_server_ends_the_streams<S: Store>(subject: Subject<S>) {
    let mut stream = subject.sync_from("", 0).await;
    drop(subject);
    assert!(matches!(stream.next().await, Some(Err(Error::Unavailable(_)))));
    assert_eq!(stream.next().await, None);
}

pub(crate) async fn reads_and_writes_run_side_by_side<S: Store>(subject: Subject<S>) {
    let tasks = (0..500).map(|i: u32| {
        let server = subject.server.clone();
        tokio::spawn(async move {
            let id = (i % 10).to_string();
            server.put(vec![record("", &id, "x")]).await.unwrap();
            assert_eq!(server.get("", &id).await.unwrap().id, id);
        })
    });
    future::try_join_all(tasks).await.unwrap();
    assert_eq!(
        subject.server.versions().await.unwrap().latest_record_version,
        500
    );
}

/// Runs the whole suite over the store that `$make` gives, with a guard kept while it is in use.
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance::conformance! { $make =>
            unknown_record_is_not_found
            put_assigns_versions_and_times
            odd_records_are_kept
            a_put_is_all_or_nothing
            a_deletion_leaves_a_tombstone
            deleting_what_is_not_there_changes_nothing
            latest_gives_each_record_once_in_order
            list_pages_literally
            sync_goes_on_with_what_comes
            sync_of_one_type_skips_the_others
            every_change_of_one_record_is_told
            slow_readers_miss_nothing
            latest_and_sync_leave_no_gap
            replace_needs_the_version_read
            replace_loses_no_update
            a_place_in_the_log_must_be_known
            old_changes_are_forgotten
            only_history_is_forgotten
            clear_starts_a_new_database
            closing_ends_the_streams
            dropping_the_server_ends_the_streams
            reads_and_writes_run_side_by_side
        }
    };
    ($make:expr => $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _guard) = $make;
                $crate::conformance::$name($crate::conformance::Subject::new(store)).await;
            }
        )*
    };
}
pub(crate) use conformance;
