//! The resolver over a real `SyncedRecords` and a small databroker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, PutReply, Record, RecordStream, Versions,
};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::{ServiceAccount, User};
use pomerium_api::records::{RecordMessage, to_proto_time, to_record, to_tombstone};
use pomerium_api::synced::SyncedRecords;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Anonymous, Resolved, SessionResolver};
use crate::principal::Principal;

mod parts;

const KEY: [u8; 32] = [7; 32];
const SERVER: u64 = 99;

/// A databroker with one follower.
#[derive(Default)]
struct Broker {
    records: Mutex<BTreeMap<(String, String), Record>>,
    version: Mutex<u64>,
    follower: Mutex<Option<mpsc::UnboundedSender<Record>>>,
    /// Changes written while this is set do not reach the follower.
    muted: AtomicBool,
    down: AtomicBool,
    /// No record can be read.
    damaged: AtomicBool,
    questions: AtomicUsize,
}

impl Broker {
    fn write(&self, mut record: Record) -> u64 {
        let mut version = self.version.lock();
        *version += 1;
        record.version = *version;
        let key = (record.r#type.clone(), record.id.clone());
        self.records.lock().insert(key, record.clone());
        if !self.muted.load(Ordering::SeqCst)
            && let Some(follower) = &*self.follower.lock()
        {
            follower.send(record).unwrap();
        }
        *version
    }

    fn put_message(&self, message: &impl RecordMessage) -> u64 {
        self.write(to_record(message))
    }

    fn at(&self) -> Versions {
        Versions {
            server_version: SERVER,
            latest_record_version: *self.version.lock(),
        }
    }

    fn up(&self) -> Result<(), Error> {
        if self.down.load(Ordering::SeqCst) {
            Err(Error::Unavailable("down".into()))
        } else {
            Ok(())
        }
    }
}

impl Databroker for Broker {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async { self.up().map(|()| self.at()) }.boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let key = (record_type.to_owned(), id.to_owned());
        let found = self
            .records
            .lock()
            .get(&key)
            .filter(|record| record.deleted_at.is_none())
            .cloned();
        let damaged = self.damaged.load(Ordering::SeqCst);
        async move {
            self.up()?;
            match damaged {
                true => Err(Error::Damaged("not what was written".into())),
                false => found.ok_or(Error::NotFound),
            }
        }
        .boxed()
    }

    fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async { Err(Error::Invalid("not asked here".into())) }.boxed()
    }

    fn sync_latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        let mut all: Vec<_> = self
            .records
            .lock()
            .values()
            .cloned()
            .map(|record| Ok(Latest::Record(record)))
            .collect();
        all.push(Ok(Latest::Versions(self.at())));
        async { Ok(stream::iter(all).boxed()) }.boxed()
    }

    fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.follower.lock() = Some(sender);
        let changes = stream::unfold(receiver, |mut receiver| async {
            let record = receiver.recv().await?;
            Some((Ok(record), receiver))
        });
        async { Ok(changes.boxed()) }.boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        async { Err(Error::Invalid("not asked here".into())) }.boxed()
    }
}

struct World {
    broker: Arc<Broker>,
    records: Arc<SyncedRecords>,
    resolver: SessionResolver,
}

impl World {
    async fn new() -> Self {
        let broker = Arc::new(Broker::default());
        let records = SyncedRecords::new(Arc::clone(&broker) as Arc<dyn Databroker>);
        tokio::spawn(Arc::clone(&records).run(std::future::pending()));
        records.wait_ready().await;
        while broker.follower.lock().is_none() {
            tokio::task::yield_now().await;
        }
        let resolver = SessionResolver::new(
            Arc::clone(&records),
            Arc::clone(&broker) as Arc<dyn Databroker>,
            KEY,
        );
        Self {
            broker,
            records,
            resolver,
        }
    }

    /// Writes a record and waits until it has arrived.
    async fn put(&self, message: &impl RecordMessage) -> u64 {
        self.arrive(to_record(message)).await
    }

    async fn delete(&self, message: &impl RecordMessage) {
        self.arrive(to_tombstone(message, now())).await;
    }

    async fn arrive(&self, record: Record) -> u64 {
        let mut changes = self.records.changes();
        let version = self.broker.write(record);
        let arrived = |at: Option<Versions>| at.is_some_and(|at| at.latest_record_version >= version);
        while !arrived(self.records.position()) {
            changes.changed().await.unwrap();
        }
        version
    }

    fn resolve(&self, token: &str) -> Resolved {
        self.resolver.resolve(token, Some("idp"), now())
    }

    async fn settle(&self, token: &str) -> Result<Resolved, Error> {
        match self.resolve(token) {
            Resolved::NeedsFetch(pending) => self.resolver.resolve_slow(pending, now()).await,
            other => Ok(other),
        }
    }

    async fn principal(&self, token: &str) -> Arc<Principal> {
        somebody(self.settle(token).await.unwrap())
    }

    fn questions(&self) -> usize {
        self.broker.questions.load(Ordering::SeqCst)
    }
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn somebody(resolved: Resolved) -> Arc<Principal> {
    match resolved {
        Resolved::Principal(principal) => principal,
        other => panic!("nobody: {other:?}"),
    }
}

fn nobody(resolved: Resolved) -> Anonymous {
    match resolved {
        Resolved::Anonymous(why) => why,
        other => panic!("not nobody: {other:?}"),
    }
}

fn claims(name: &str, value: &str) -> std::collections::HashMap<String, prost_types::ListValue> {
    let kind = Some(prost_types::value::Kind::StringValue(value.into()));
    [(
        name.to_owned(),
        prost_types::ListValue {
            values: vec![prost_types::Value { kind }],
        },
    )]
    .into()
}

fn session(id: &str, user_id: &str) -> Session {
    let expires_at = Some(to_proto_time(now() + jiff::SignedDuration::from_hours(1)));
    Session {
        id: id.into(),
        user_id: user_id.into(),
        expires_at,
        claims: claims("role", "session"),
        ..Session::default()
    }
}

fn user(id: &str) -> User {
    User {
        id: id.into(),
        email: format!("{id}@example.com"),
        ..User::default()
    }
}

fn token(id: &str, min: u64) -> String {
    let server = if min == 0 { 0 } else { SERVER };
    pomerium_crypto::jwt::hs256_sign(
        &KEY,
        &json!({"jti": id, "idp_id": "idp", "aud": "app.example.com",
                "databroker_server_version": server, "databroker_record_version": min}),
    )
}

#[tokio::test]
async fn a_known_session_is_resolved_without_a_question() {
    let world = World::new().await;
    world.put(&user("u1")).await;
    let version = world.put(&session("s1", "u1")).await;
    let principal = somebody(world.resolve(&token("s1", version)));
    assert_eq!(
        (principal.user_id.as_str(), principal.email.as_str()),
        ("u1", "u1@example.com")
    );
    assert_eq!(principal.subject.session_id, "s1");
    let again = somebody(world.resolve(&token("s1", version)));
    assert!(Arc::ptr_eq(&principal, &again), "the second use is remembered");
    assert_eq!(world.questions(), 0);
}

#[tokio::test]
async fn a_session_that_has_not_arrived_is_fetched_once_with_its_user() {
    let world = World::new().await;
    world.broker.muted.store(true, Ordering::SeqCst);
    world.broker.put_message(&user("u1"));
    let version = world.broker.put_message(&session("s1", "u1"));
    let token = token("s1", version);
    assert_eq!(world.principal(&token).await.email, "u1@example.com");
    let asked = world.questions();
    assert_eq!(world.principal(&token).await.email, "u1@example.com");
    assert_eq!(world.questions(), asked);
}

#[tokio::test]
async fn who_was_seen_ahead_of_the_change_log_needs_no_question() {
    let world = World::new().await;
    world.put(&user("u1")).await;
    let version = world.put(&session("s1", "u1")).await;
    let token = token("s1", version);
    somebody(world.resolve(&token));
    world
        .put(&User {
            name: "changed".into(),
            ..user("u1")
        })
        .await;
    world.broker.muted.store(true, Ordering::SeqCst);
    let used = Session {
        accessed_at: Some(to_proto_time(now())),
        ..session("s1", "u1")
    };
    let mut used = to_record(&used);
    used.version = world.broker.write(used.clone());
    world.records.apply(SERVER, &used);
    world.broker.down.store(true, Ordering::SeqCst);
    let principal = somebody(world.resolve(&token));
    assert_eq!(principal.user.as_ref().unwrap().user.name, "changed");
    assert_eq!(world.questions(), 0);
}

#[tokio::test]
async fn each_change_of_a_record_counts_at_once() {
    let world = World::new().await;
    world.put(&user("u1")).await;
    world.put(&session("s1", "u1")).await;
    let token = token("s1", 0);
    assert_eq!(
        somebody(world.resolve(&token)).claim("role").unwrap(),
        [json!("session")]
    );

    world
        .put(&Session {
            claims: claims("role", "changed"),
            ..session("s1", "u1")
        })
        .await;
    assert_eq!(
        somebody(world.resolve(&token)).claim("role").unwrap(),
        [json!("changed")]
    );

    world
        .put(&User {
            email: "new@example.com".into(),
            claims: claims("role", "user"),
            ..user("u1")
        })
        .await;
    let principal = somebody(world.resolve(&token));
    assert_eq!(principal.subject.email, "new@example.com");
    assert_eq!(
        principal.subject.claim("role"),
        [json!("user")],
        "policies believe the user record"
    );
    assert_eq!(
        principal.claim("role").unwrap(),
        [json!("changed")],
        "headers believe the session"
    );

    world.delete(&user("u1")).await;
    assert_eq!(somebody(world.resolve(&token)).email, "");
    world.delete(&session("s1", "u1")).await;
    assert_eq!(nobody(world.settle(&token).await.unwrap()), Anonymous::NoRecord);
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_once_per_change() {
    let world = World::new().await;
    let gone = token("gone", 0);
    assert_eq!(nobody(world.settle(&gone).await.unwrap()), Anonymous::NoRecord);
    let asked = world.questions();
    assert_eq!(nobody(world.resolve(&gone)), Anonymous::NoRecord);
    assert_eq!(world.questions(), asked);
    world.put(&session("gone", "u1")).await;
    assert_eq!(world.principal(&gone).await.user_id, "u1");
}

#[tokio::test]
async fn an_expired_session_is_nobody_even_when_remembered() {
    let world = World::new().await;
    world.put(&session("s1", "u1")).await;
    let token = token("s1", 0);
    somebody(world.resolve(&token));
    let later = now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(
        nobody(world.resolver.resolve(&token, Some("idp"), later)),
        Anonymous::Expired
    );
    let just_before = later - jiff::SignedDuration::from_secs(1);
    somebody(world.resolver.resolve(&token, Some("idp"), just_before));
}

#[tokio::test]
async fn a_handle_counts_only_for_its_provider() {
    let world = World::new().await;
    world.put(&session("s1", "u1")).await;
    let token = token("s1", 0);
    somebody(world.resolve(&token));
    for other in [Some("other"), Some(""), None] {
        assert_eq!(
            nobody(world.resolver.resolve(&token, other, now())),
            Anonymous::OtherProvider
        );
    }
    let free = pomerium_crypto::jwt::hs256_sign(&KEY, &json!({"jti": "s1"}));
    somebody(world.resolver.resolve(&free, None, now()));
}

#[tokio::test]
async fn tokens_not_signed_by_us_are_nobody() {
    let world = World::new().await;
    world.put(&session("s1", "u1")).await;
    let foreign = pomerium_crypto::jwt::hs256_sign(&[8; 32], &json!({"jti": "s1"}));
    let nameless = pomerium_crypto::jwt::hs256_sign(&KEY, &json!({"sub": "u1"}));
    let good = token("s1", 0);
    let cut = &good[..good.len() - 1];
    for bad in [
        foreign.as_str(),
        &nameless,
        cut,
        "",
        "bogus",
        "a.b.c",
        &format!("{good}.x"),
    ] {
        assert_eq!(nobody(world.resolve(bad)), Anonymous::Malformed, "{bad}");
    }
}

#[tokio::test]
async fn service_accounts_carry_the_claims_of_their_user() {
    let world = World::new().await;
    let expires_at = Some(to_proto_time(now() + jiff::SignedDuration::from_hours(1)));
    let account = ServiceAccount {
        id: "sa".into(),
        user_id: "u1".into(),
        expires_at,
        ..ServiceAccount::default()
    };
    world.put(&account).await;
    world
        .put(&User {
            claims: claims("role", "admin"),
            ..user("u1")
        })
        .await;
    let token = pomerium_crypto::jwt::hs256_sign(&KEY, &json!({"jti": "sa", "sub": "u1"}));
    let principal = world.principal(&token).await;
    assert!(principal.service_account && principal.session.is_none());
    assert_eq!(principal.subject.claim("role"), [json!("admin")]);
    let later = now() + jiff::SignedDuration::from_hours(2);
    assert_eq!(
        nobody(world.resolver.resolve(&token, None, later)),
        Anonymous::Expired
    );
    world.delete(&account).await;
    assert_eq!(nobody(world.settle(&token).await.unwrap()), Anonymous::NoRecord);
}

#[tokio::test]
async fn one_impersonation_is_followed() {
    let world = World::new().await;
    world.put(&user("admin")).await;
    world.put(&user("u2")).await;
    let soon = Some(to_proto_time(now() + jiff::SignedDuration::from_mins(5)));
    let target = Session {
        expires_at: soon,
        // A second hop, which is not followed.
        impersonate_session_id: Some("s3".into()),
        ..session("s2", "u2")
    };
    world.put(&target).await;
    world.put(&session("s3", "u3")).await;
    world
        .put(&Session {
            impersonate_session_id: Some("s2".into()),
            ..session("s1", "admin")
        })
        .await;
    let token = token("s1", 0);
    let principal = world.principal(&token).await;
    assert_eq!(
        (principal.session_id.as_str(), principal.user_id.as_str()),
        ("s1", "u2")
    );
    assert_eq!(principal.subject.session_id, "s2");
    assert_eq!(
        principal.impersonator.as_ref().unwrap().email,
        "admin@example.com"
    );
    let later = now() + jiff::SignedDuration::from_mins(6);
    assert_eq!(
        nobody(world.resolver.resolve(&token, Some("idp"), later)),
        Anonymous::Expired
    );

    world.delete(&target).await;
    assert_eq!(
        nobody(world.settle(&token).await.unwrap()),
        Anonymous::ImpersonationGone
    );
}

#[tokio::test]
async fn an_unreachable_databroker_is_an_error_not_a_login() {
    let world = World::new().await;
    world.broker.down.store(true, Ordering::SeqCst);
    assert!(matches!(
        world.settle(&token("s1", 5)).await,
        Err(Error::Unavailable(_))
    ));
}

/// It will not be better with another try.
#[tokio::test]
async fn a_damaged_session_is_a_login() {
    let world = World::new().await;
    world.broker.damaged.store(true, Ordering::SeqCst);
    assert!(matches!(
        world.settle(&token("s1", 0)).await,
        Ok(Resolved::Anonymous(Anonymous::NoRecord))
    ));
}
