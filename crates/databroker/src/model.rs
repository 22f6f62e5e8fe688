//! Random histories, restarts included, against a model that is too simple to be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use pomerium_api::databroker::{Databroker, Error, Versions};
use proptest::prelude::*;

use crate::conformance::{CATS, DOGS, Subject, all_latest, deletion, record};
use crate::{FileStore, MemoryStore, RETENTION, Store};

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<Change>),
    /// Whether the version given is the current one.
    Replace(Change, bool),
    Clear,
    Wait(u64),
    Trim,
    Restart,
}

#[derive(Debug, Clone)]
struct Change {
    dog: bool,
    id: u8,
    /// `None` deletes.
    data: Option<u8>,
}

impl Change {
    fn key(&self) -> Key {
        ((if self.dog { DOGS } else { CATS }).into(), self.id.to_string())
    }
}

fn change() -> impl Strategy<Value = Change> {
    (
        any::<bool>(),
        0..4_u8,
        proptest::option::weighted(0.7, any::<u8>()),
    )
        .prop_map(|(dog, id, data)| Change { dog, id, data })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(change(), 0..4).prop_map(Step::Put),
        2 => (change(), any::<bool>()).prop_map(|(change, fresh)| Step::Replace(change, fresh)),
        1 => Just(Step::Clear),
        2 => (0..4000_u64).prop_map(Step::Wait),
        2 => Just(Step::Trim),
        2 => Just(Step::Restart),
    ]
}

/// Type and id.
type Key = (String, String);
/// Version, time, key, data (`None`: tombstone).
type Logged = (u64, u64, Key, Option<u8>);

/// What the store should hold.
#[derive(Default)]
struct Model {
    now: u64,
    latest: u64,
    trimmed: u64,
    live: BTreeMap<Key, (u64, u8)>,
    log: Vec<Logged>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        let key = change.key();
        if change.data.is_none() && !self.live.contains_key(&key) {
            return;
        }
        self.latest += 1;
        match change.data {
            Some(data) => self.live.insert(key.clone(), (self.latest, data)),
            None => self.live.remove(&key),
        };
        self.log.push((self.latest, self.now, key, change.data));
    }

    fn trim(&mut self) {
        let cutoff = self.now.saturating_sub(RETENTION.as_secs());
        let (old, kept) = std::mem::take(&mut self.log)
            .into_iter()
            .partition(|entry| entry.1 < cutoff);
        let old: Vec<_> = old;
        self.log = kept;
        self.trimmed = old.last().map_or(self.trimmed, |entry| entry.0);
    }
}

fn to_record(change: &Change) -> pomerium_api::databroker::Record {
    let (record_type, id) = change.key();
    match change.data {
        Some(data) => record(&record_type, &id, &data.to_string()),
        None => deletion(&record_type, &id),
    }
}

async fn check<S: Store>(subject: &Subject<S>, model: &Model) {
    let (records, at) = all_latest(&*subject.server, "").await;
    let live: Vec<_> = records
        .into_iter()
        .map(|record| {
            (
                (record.r#type, record.id),
                (record.version, record.data.unwrap().value),
            )
        })
        .collect();
    let expected: Vec<_> = model
        .live
        .iter()
        .map(|(key, (version, data))| (key.clone(), (*version, data.to_string().into_bytes())))
        .collect();
    assert_eq!(live, expected);
    assert_eq!(at.latest_record_version, model.latest);
    let from = |version| Versions {
        latest_record_version: version,
        ..at
    };
    if model.trimmed > 0 {
        let refused = subject.server.sync("", from(model.trimmed - 1)).await.err();
        assert_eq!(refused, Some(Error::Resync));
    }
    let changes = subject.server.sync("", from(model.trimmed)).await.unwrap();
    let changes: Vec<_> = changes
        .take(model.log.len())
        .map(Result::unwrap)
        .map(|change| {
            (
                change.version,
                (change.r#type, change.id),
                change.deleted_at.is_some(),
            )
        })
        .collect()
        .await;
    let expected: Vec<_> = model
        .log
        .iter()
        .map(|(version, _, key, data)| (*version, key.clone(), data.is_none()))
        .collect();
    assert_eq!(changes, expected);
}

async fn run<S: Store>(open: impl Fn() -> S, steps: Vec<Step>, restartable: bool) {
    let mut subject = Subject::new(open());
    // As in `Subject`: far enough from the start of time for the first trim.
    let mut model = Model {
        now: RETENTION.as_secs() * 10,
        ..Model::default()
    };
    for step in steps {
        match step {
            Step::Put(changes) => {
                subject
                    .server
                    .put(changes.iter().map(to_record).collect())
                    .await
                    .unwrap();
                changes.iter().for_each(|change| model.apply(change));
            }
            Step::Replace(change, fresh) => {
                let current = model.live.get(&change.key()).map(|(version, _)| *version);
                let version = current.unwrap_or(1) + u64::from(!fresh);
                let record = pomerium_api::databroker::Record {
                    version,
                    ..to_record(&change)
                };
                let replaced = subject.server.replace(record).await.unwrap();
                assert_eq!(replaced.is_some(), fresh && current.is_some());
                if replaced.is_some() {
                    model.apply(&change);
                }
            }
            Step::Clear => {
                subject.server.clear().await.unwrap();
                model = Model {
                    now: model.now,
                    ..Model::default()
                };
            }
            Step::Wait(seconds) => {
                subject.clock.advance(Duration::from_secs(seconds));
                model.now += seconds;
            }
            Step::Trim => {
                subject.server.trim().await.unwrap();
                model.trim();
            }
            Step::Restart if restartable => {
                let before = subject.server.versions().await.unwrap();
                drop(subject);
                subject = Subject::new(open());
                subject
                    .clock
                    .advance(Duration::from_secs(model.now - RETENTION.as_secs() * 10));
                assert_eq!(subject.server.versions().await.unwrap(), before);
            }
            Step::Restart => {}
        }
        check(&subject, &model).await;
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn memory_follows_the_model(steps in proptest::collection::vec(step(), 0..60)) {
        block_on(run(MemoryStore::new, steps, false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn file_follows_the_model(steps in proptest::collection::vec(step(), 0..40)) {
        let folder = tempfile::tempdir().unwrap();
        block_on(run(|| FileStore::open(folder.path(), &[[7; 32]]).unwrap(), steps, true));
    }
}
