//! Damage as it happens: a flipped bit in a file, a row that somebody wrote over. Each story over both stores that keep
//! records outside of the process.
#![allow(
    clippy::cognitive_complexity,
    reason = "each test is one story of many steps, told in order"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use pomerium_api::databroker::{Databroker, Error, Filter, Options, Query, Record, RecordKey, Versions};
use tempfile::TempDir;

use crate::backup;
use crate::conformance::{CATS, DOGS, Subject, all_latest, deletion, of, record};
use crate::file::tests::spoil;
use crate::postgres::tests::{fresh, tell};
use crate::store::Store;
use crate::{FileStore, PostgresStore};

const KEY: [u8; 32] = [7; 32];

/// Does harm to a record.
type Harm<S> = Box<dyn Fn(&S, RecordKey) -> BoxFuture<'static, ()>>;

/// A databroker, and the way to do harm to a record of its store and to the last change of it.
struct Stage<S> {
    subject: Subject<S>,
    harm: Harm<S>,
    _folder: Option<TempDir>,
}

fn file() -> Stage<FileStore> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    Stage {
        subject: Subject::new(FileStore::open(&path, &[KEY]).unwrap()),
        harm: Box::new(move |store, (record_type, id)| {
            spoil(store, &path, (&record_type, &id), -1);
            std::future::ready(()).boxed()
        }),
        _folder: Some(folder),
    }
}

async fn postgres() -> Stage<PostgresStore> {
    let connection = fresh().await;
    let store = PostgresStore::open(&connection, &[KEY]).await.unwrap();
    Stage {
        subject: Subject::new(store),
        harm: Box::new(move |_, (record_type, id)| {
            let connection = connection.clone();
            let live = format!("type = '{record_type}' AND id = '{id}'");
            let statements = format!(
                "UPDATE pomerium_rs.changes SET value = '\\x00'
                 WHERE version = (SELECT version FROM pomerium_rs.records WHERE {live});
                 UPDATE pomerium_rs.records SET value = '\\x00' WHERE {live}"
            );
            async move { tell(&connection, &statements).await }.boxed()
        }),
        _folder: None,
    }
}

impl<S: Store> Stage<S> {
    fn broker(&self) -> &dyn Databroker {
        &*self.subject.broker
    }

    async fn put(&self, record_type: &str, ids: &[&str]) {
        for id in ids {
            let put = self.broker().put(vec![record(record_type, id, "x")]).await;
            put.unwrap();
        }
    }

    async fn harm(&self, record_type: &str, id: &str) {
        (self.harm)(self.subject.server.store(), key(record_type, id)).await;
    }

    /// The ids of all records of a type that can be read.
    async fn ids(&self, record_type: &str) -> Vec<String> {
        let (records, _) = all_latest(self.broker(), record_type).await;
        records.into_iter().map(|record| record.id).collect()
    }

    async fn unreadable(&self) -> Vec<RecordKey> {
        self.broker().unreadable().await.unwrap()
    }

    async fn keep(&self, record_type: &str, options: Options) {
        let set = self.broker().set_options(record_type.into(), options).await;
        set.unwrap();
    }
}

fn key(record_type: &str, id: &str) -> RecordKey {
    (record_type.to_owned(), id.to_owned())
}

fn minute() -> Options {
    Options {
        ttl: Duration::from_secs(60).try_into().ok(),
        ..Options::default()
    }
}

macro_rules! stories {
    ($($name:ident)*) => {
        mod in_files {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::file()).await;
                }
            )*
        }
        mod in_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::postgres().await).await;
                }
            )*
        }
    };
}

stories! {
    a_damaged_record_is_told_from_all_others
    its_key_is_enough_to_delete_it
    it_can_be_driven_out
    it_expires_and_keeps_no_other_from_it
    whoever_meets_it_in_the_change_log_starts_over
    a_backup_says_what_it_lacks
}

async fn a_damaged_record_is_told_from_all_others<S: Store>(stage: Stage<S>) {
    stage.put(CATS, &["kim", "tom"]).await;
    assert_eq!(stage.unreadable().await, []);
    stage.harm(CATS, "tom").await;
    let broker = stage.broker();
    assert!(matches!(broker.get(CATS, "tom").await, Err(Error::Damaged(_))));
    assert_eq!(stage.ids(CATS).await, ["kim"]);
    for filter in [
        Filter::default(),
        Filter::Or(vec![Filter::id("kim"), Filter::id("tom")]),
    ] {
        let query = Query {
            filter,
            ..of(CATS, 0, 10)
        };
        assert_eq!(broker.query(query).await.unwrap().records.len(), 1);
    }
    assert_eq!(stage.unreadable().await, [key(CATS, "tom")]);
    // It is there, so that nobody can make it, and nobody can say what of it is to stay.
    assert_eq!(broker.replace(record(CATS, "tom", "y")).await, Ok(None));
    let patch = broker
        .patch(vec![record(CATS, "tom", "y")], vec!["name".into()])
        .await;
    assert!(matches!(patch, Err(Error::Damaged(_))), "{patch:?}");
    stage.put(CATS, &["tom"]).await;
    assert_eq!(stage.ids(CATS).await, ["kim", "tom"]);
    assert_eq!(stage.unreadable().await, []);
}

async fn its_key_is_enough_to_delete_it<S: Store>(stage: Stage<S>) {
    stage.put(CATS, &["kim", "tom"]).await;
    let here = stage.broker().versions().await.unwrap();
    for id in ["kim", "tom"] {
        stage.harm(CATS, id).await;
    }
    let put = stage.broker().put(vec![deletion(CATS, "tom")]).await.unwrap();
    assert_eq!((put.records[0].version, &put.records[0].data), (3, &None));
    let patch = stage
        .broker()
        .patch(vec![deletion(CATS, "kim")], Vec::new())
        .await;
    assert_eq!(patch.unwrap().records.len(), 1);
    assert_eq!(stage.broker().get(CATS, "tom").await, Err(Error::NotFound));
    assert_eq!(stage.unreadable().await, []);
    let changes = stage.broker().sync_until_now("", here).await.unwrap();
    let gone: Vec<Record> = changes.map(Result::unwrap).collect().await;
    assert!(gone.iter().all(|change| change.deleted_at.is_some()), "{gone:?}");
    assert_eq!(gone.len(), 2);
}

async fn it_can_be_driven_out<S: Store>(stage: Stage<S>) {
    stage.put(CATS, &["a", "b", "c"]).await;
    let capacity = Options {
        capacity: Some(3),
        ..Options::default()
    };
    stage.keep(CATS, capacity).await;
    stage.harm(CATS, "a").await;
    stage.put(CATS, &["d"]).await;
    assert_eq!(stage.ids(CATS).await, ["b", "c", "d"]);
    stage.harm(CATS, "c").await;
    stage.put(CATS, &["c", "e"]).await;
    assert_eq!(stage.ids(CATS).await, ["c", "d", "e"]);
}

async fn it_expires_and_keeps_no_other_from_it<S: Store>(stage: Stage<S>) {
    for record_type in [CATS, DOGS] {
        stage.keep(record_type, minute()).await;
        stage.put(record_type, &["a", "b"]).await;
    }
    stage.harm(CATS, "a").await;
    stage.subject.clock.advance(Duration::from_secs(59));
    stage.put(CATS, &["late"]).await;
    assert_eq!(stage.subject.server.clean().await, Ok(0));
    stage.subject.clock.advance(Duration::from_secs(2));
    assert_eq!(stage.subject.server.clean().await, Ok(4));
    assert_eq!(stage.ids("").await, ["late"]);
    assert_eq!(stage.unreadable().await, []);
}

async fn whoever_meets_it_in_the_change_log_starts_over<S: Store>(stage: Stage<S>) {
    let from = stage.broker().versions().await.unwrap();
    stage.put(CATS, &["kim", "tom", "liz"]).await;
    stage.harm(CATS, "tom").await;
    let mut waiting = stage.broker().sync("", from).await.unwrap();
    assert_eq!(waiting.next().await, Some(Err(Error::Resync)));
    let mut ending = stage.broker().sync_until_now(CATS, from).await.unwrap();
    assert_eq!(ending.next().await, Some(Err(Error::Resync)));
    // Others are not concerned.
    let mut others = stage.broker().sync_until_now(DOGS, from).await.unwrap();
    assert_eq!(others.next().await, None);
    // Who starts over gets on.
    let (records, at) = all_latest(stage.broker(), "").await;
    assert_eq!(records.len(), 2);
    let mut again = stage.broker().sync("", at).await.unwrap();
    stage.put(CATS, &["max"]).await;
    assert_eq!(again.next().await.unwrap().unwrap().id, "max");
}

async fn a_backup_says_what_it_lacks<S: Store>(stage: Stage<S>) {
    stage.put(CATS, &["kim", "tom"]).await;
    stage.harm(CATS, "tom").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    let now = jiff::Timestamp::UNIX_EPOCH;
    let made = backup::write(stage.broker(), &path, &KEY, now).await.unwrap();
    assert_eq!(made.left_out, [key(CATS, "tom")]);
    assert_eq!(made.records, BTreeMap::from([(CATS.to_owned(), 1)]));
    let checked = backup::check(&path, &[KEY]).unwrap();
    assert_eq!(checked.summary(), &made, "it says so for ever");
    // What is whole again is not missing.
    stage.put(CATS, &["tom"]).await;
    let path = folder.path().join("next");
    let made = backup::write(stage.broker(), &path, &KEY, now).await.unwrap();
    assert_eq!((made.left_out, made.records[CATS]), (Vec::new(), 2));
}

/// A record of which not even the time is known stays, and is told; the others go.
#[tokio::test]
async fn a_record_without_a_time_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let subject = Subject::new(FileStore::open(path, &[KEY]).unwrap());
    let set = subject.broker.set_options(CATS.into(), minute()).await;
    set.unwrap();
    for id in ["a", "b"] {
        subject.broker.put(vec![record(CATS, id, "x")]).await.unwrap();
    }
    // In its version, and in its value.
    for at in [9, -1] {
        spoil(subject.server.store(), path, (CATS, "a"), at);
    }
    subject.clock.advance(Duration::from_secs(61));
    assert_eq!(subject.server.clean().await, Ok(1));
    assert_eq!(subject.server.clean().await, Ok(0));
    assert_eq!(
        subject.server.store().inspect().await.unwrap().records,
        BTreeMap::new()
    );
    assert_eq!(subject.broker.unreadable().await, Ok(vec![key(CATS, "a")]));
    let gone = subject.broker.put(vec![deletion(CATS, "a")]).await.unwrap();
    assert_eq!(gone.records[0].version, 4);
    let at = subject.broker.versions().await.unwrap();
    assert_eq!(
        at,
        Versions {
            latest_record_version: 4,
            ..at
        }
    );
}
