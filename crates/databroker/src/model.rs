//! Random histories, restarts and changes of the key included, against a model that is too simple to be wrong. What fails
//! is made as small as it gets, and printed with its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use pomerium_api::databroker::{Databroker, Error, Options, Versions};
use proptest::prelude::*;

use crate::conformance::{CATS, DOGS, Subject, all_latest, deletion, record};
use crate::{FileStore, MemoryStore, PostgresStore, RETENTION, Store};

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<Change>),
    /// Whether the version given is the current one.
    Replace(Change, bool),
    Clear,
    Wait(u64),
    /// What happens each minute.
    Clean,
    /// How many dogs or cats are kept.
    Capacity(bool, Option<u8>),
    /// For how many seconds.
    Ttl(bool, Option<u16>),
    /// Whether with a new key.
    Restart(bool),
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
        (kind(self.dog).into(), self.id.to_string())
    }
}

fn kind(dog: bool) -> &'static str {
    if dog { DOGS } else { CATS }
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
        2 => Just(Step::Clean),
        1 => (any::<bool>(), proptest::option::of(0..4_u8)).prop_map(|(dog, most)| Step::Capacity(dog, most)),
        1 => (any::<bool>(), proptest::option::of(1..4000_u16)).prop_map(|(dog, ttl)| Step::Ttl(dog, ttl)),
        2 => any::<bool>().prop_map(Step::Restart),
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
    /// Version, time, data.
    live: BTreeMap<Key, (u64, u64, u8)>,
    log: Vec<Logged>,
    capacity: BTreeMap<&'static str, u8>,
    ttl: BTreeMap<&'static str, u16>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        let key = change.key();
        if change.data.is_none() && !self.live.contains_key(&key) {
            return;
        }
        self.latest += 1;
        match change.data {
            Some(data) => self.live.insert(key.clone(), (self.latest, self.now, data)),
            None => self.live.remove(&key),
        };
        self.log.push((self.latest, self.now, key, change.data));
    }

    fn put(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.apply(change));
        let touched: BTreeSet<&str> = changes.iter().map(|change| kind(change.dog)).collect();
        touched.into_iter().for_each(|name| self.make_room(name));
    }

    fn make_room(&mut self, name: &str) {
        let Some(most) = self.capacity.get(name).copied() else {
            return;
        };
        while self.of(name).count() > usize::from(most) {
            let oldest = self.of(name).min().unwrap().2;
            self.evict(&oldest);
        }
    }

    /// Version, time and key of live records of a type.
    fn of<'m>(&'m self, name: &'m str) -> impl Iterator<Item = (u64, u64, Key)> + 'm {
        let of_type = self.live.iter().filter(move |(key, _)| key.0 == name);
        of_type.map(|(key, (version, time, _))| (*version, *time, key.clone()))
    }

    fn evict(&mut self, key: &Key) {
        let change = Change {
            dog: key.0 == DOGS,
            id: key.1.parse().unwrap(),
            data: None,
        };
        self.apply(&change);
    }

    fn clean(&mut self) {
        self.trim();
        for name in [CATS, DOGS] {
            self.make_room(name);
            let Some(ttl) = self.ttl.get(name).copied() else {
                continue;
            };
            let before = self.now - u64::from(ttl);
            while let Some((_, time, key)) = self.of(name).min() {
                if time >= before {
                    break;
                }
                self.evict(&key);
            }
        }
    }

    fn trim(&mut self) {
        let cutoff = self.now.saturating_sub(RETENTION.as_secs());
        let newest = self.log.last().map_or(0, |entry| entry.0);
        let (old, kept) = std::mem::take(&mut self.log)
            .into_iter()
            .partition(|entry| entry.1 < cutoff && entry.0 < newest);
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
        .map(|(key, (version, _, data))| (key.clone(), (*version, data.to_string().into_bytes())))
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

/// The key of today, and the one before.
fn keys(generation: u8) -> [[u8; 32]; 2] {
    [[generation; 32], [generation - 1; 32]]
}

async fn run<S: Store>(open: impl AsyncFn(&[[u8; 32]]) -> S, steps: Vec<Step>, restartable: bool) {
    let mut generation = 7;
    let mut subject = Subject::new(open(&keys(generation)).await);
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
                model.put(&changes);
            }
            Step::Replace(change, fresh) => {
                let current = model.live.get(&change.key()).map(|(version, ..)| *version);
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
            Step::Clean => {
                subject.server.clean().await.unwrap();
                model.clean();
            }
            Step::Capacity(dog, most) => {
                match most {
                    Some(most) => model.capacity.insert(kind(dog), most),
                    None => model.capacity.remove(kind(dog)),
                };
                set_options(&subject, &model, dog).await;
            }
            Step::Ttl(dog, seconds) => {
                match seconds {
                    Some(seconds) => model.ttl.insert(kind(dog), seconds),
                    None => model.ttl.remove(kind(dog)),
                };
                set_options(&subject, &model, dog).await;
            }
            Step::Restart(new_key) if restartable => {
                let before = subject.server.versions().await.unwrap();
                drop(subject);
                generation += u8::from(new_key);
                subject = Subject::new(open(&keys(generation)).await);
                subject
                    .clock
                    .advance(Duration::from_secs(model.now - RETENTION.as_secs() * 10));
                assert_eq!(subject.server.versions().await.unwrap(), before);
            }
            Step::Restart(_) => {}
        }
        check(&subject, &model).await;
    }
}

async fn set_options<S: Store>(subject: &Subject<S>, model: &Model, dog: bool) {
    let options = Options {
        capacity: model.capacity.get(kind(dog)).map(|most| u64::from(*most)),
        ttl: model.ttl.get(kind(dog)).map(|seconds| prost_types::Duration {
            seconds: i64::from(*seconds),
            nanos: 0,
        }),
        ..Options::default()
    };
    subject
        .server
        .set_options(kind(dog).into(), options)
        .await
        .unwrap();
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
        block_on(run(async |_: &[[u8; 32]]| MemoryStore::new(), steps, false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn file_follows_the_model(steps in proptest::collection::vec(step(), 0..40)) {
        let folder = tempfile::tempdir().unwrap();
        let open = async |keys: &[[u8; 32]]| FileStore::open(folder.path(), keys).unwrap();
        block_on(run(open, steps, true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn postgres_follows_the_model(steps in proptest::collection::vec(step(), 10..40)) {
        block_on(async {
            let connection = crate::postgres::fresh_database().await;
            let open = async |keys: &[[u8; 32]]| PostgresStore::open(&connection, keys).await.unwrap();
            run(open, steps, true).await;
        });
    }
}
