//! The conformance suite on a real server, and what only a database can do.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, future};
use pomerium_api::databroker::{Filter, LeaseRequest, Options, Query, Versions};
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage, struct_record};
use serde_json::json;

use super::running::Postgres;
use super::{OpenError, PostgresStore};
use crate::conformance::{CATS, Subject, all_latest, conformance, deletion, of, record, session};
use crate::store::{Store, Write};

pub(super) const KEY: [u8; 32] = [7; 32];

/// One server for all tests, a database for each.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// A connection string to a database that nobody has used.
pub(crate) async fn fresh() -> String {
    let server = tokio::task::spawn_blocking(|| &*SERVER).await.unwrap();
    fresh_on(server).await
}

/// The same on another server.
pub(super) async fn fresh_on(server: &Postgres) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let config = server.connection("postgres");
    tell(&config, &format!("CREATE DATABASE {name}")).await;
    server.connection(&name)
}

/// A client beside the store.
pub(super) async fn client(connection: &str) -> tokio_postgres::Client {
    let (client, task) = tokio_postgres::connect(connection, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(task);
    client
}

/// Has something done in the database.
pub(crate) async fn tell(connection: &str, statements: &str) {
    client(connection).await.batch_execute(statements).await.unwrap();
}

/// Ends every other connection to the database; they are gone when it returns.
pub(super) async fn cut_off(connection: &str) {
    let all = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    tell(connection, all).await;
}

/// A store in a database that nobody has used.
pub(crate) async fn fresh_store() -> PostgresStore {
    open(&fresh().await).await
}

pub(super) async fn open(connection: &str) -> PostgresStore {
    PostgresStore::open(connection, &[KEY]).await.unwrap()
}

mod suite {
    use super::*;
    conformance!((open(&fresh().await).await, ()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_one_databroker_is_seen_by_the_others_in_order() {
    let connection = fresh().await;
    let (one, two) = (
        Subject::new(open(&connection).await),
        Subject::new(open(&connection).await),
    );
    let here = two.broker.versions().await.unwrap();
    let following = two.broker.sync("", here).await.unwrap();
    let writes = (0..40).map(|i: u32| {
        let broker = if i.is_multiple_of(2) {
            &one.broker
        } else {
            &two.broker
        };
        broker.put(vec![
            record(CATS, &i.to_string(), "x"),
            record(CATS, "same", &i.to_string()),
        ])
    });
    future::try_join_all(writes).await.unwrap();
    let versions: Vec<u64> = following
        .take(80)
        .map(|change| change.unwrap().version)
        .collect()
        .await;
    assert_eq!(
        versions,
        (1..=80).collect::<Vec<_>>(),
        "no gap, no order but that of the commits"
    );
    assert_eq!(
        all_latest(&*one.broker, "").await,
        all_latest(&*two.broker, "").await
    );

    let cleared = one.broker.clear().await.unwrap();
    let elsewhere = two.broker.versions().await.unwrap();
    assert_eq!(elsewhere.server_version, cleared.new);
    let stale = Versions {
        server_version: cleared.old,
        ..elsewhere
    };
    assert!(two.broker.sync("", stale).await.is_err());
}

#[tokio::test]
async fn a_clear_elsewhere_ends_a_stream() {
    let connection = fresh().await;
    let (one, two) = (
        Subject::new(open(&connection).await),
        Subject::new(open(&connection).await),
    );
    one.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let here = two.broker.versions().await.unwrap();
    let mut following = two.broker.sync("", here).await.unwrap();
    let waiting = tokio::spawn(async move { following.next().await });
    one.broker.clear().await.unwrap();
    assert_eq!(
        waiting.await.unwrap(),
        Some(Err(pomerium_api::databroker::Error::Resync))
    );
}

#[tokio::test]
async fn contents_are_sealed_and_keys_must_fit() {
    let connection = fresh().await;
    let store = Subject::new(open(&connection).await);
    store
        .broker
        .put(vec![record(CATS, "tom", "refresh-token-of-a-user")])
        .await
        .unwrap();
    let client = client(&connection).await;
    let row = client
        .query_one(
            "SELECT count(*) FROM pomerium_rs.records r, pomerium_rs.changes c
             WHERE position($1::bytea in r.value) > 0 OR position($1::bytea in c.value) > 0",
            &[&b"refresh-token".as_slice()],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    let refused = |keys: Vec<[u8; 32]>| {
        let connection = connection.clone();
        async move {
            match PostgresStore::open(&connection, &keys).await {
                Err(OpenError::Migrate(error)) => error.to_string(),
                other => panic!("{:?}", other.err()),
            }
        }
    };
    assert!(refused(vec![[8; 32]]).await.contains("another shared secret"));
    assert!(refused(vec![]).await.contains("no shared secret"));
    let rotated = PostgresStore::open(&connection, &[[8; 32], KEY]).await.unwrap();
    let rotated = Subject::new(rotated);
    assert!(
        rotated.broker.get(CATS, "tom").await.is_ok(),
        "the former key still opens"
    );
    rotated.broker.put(vec![record(CATS, "kit", "x")]).await.unwrap();
    assert!(store.broker.get(CATS, "kit").await.is_err(), "and seals no more");
    let here = rotated.broker.versions().await.unwrap();
    drop(rotated);
    // Everything is sealed with the new key by now: the former may be forgotten.
    let renewed = Subject::new(PostgresStore::open(&connection, &[[8; 32]]).await.unwrap());
    assert_eq!(all_latest(&*renewed.broker, "").await.0.len(), 2);
    let from = Versions {
        latest_record_version: 0,
        ..here
    };
    let changes = renewed.broker.sync_until_now("", from).await.unwrap();
    assert_eq!(changes.map(Result::unwrap).count().await, 2);
    assert!(refused(vec![KEY]).await.contains("another shared secret"));
}

/// A new secret for several databrokers, one restarted after the other.
#[tokio::test]
async fn what_others_go_on_sealing_with_the_former_key_is_sealed_anew() {
    const NEW: [u8; 32] = [8; 32];
    let connection = fresh().await;
    let start = async |keys: &[[u8; 32]]| Subject::new(PostgresStore::open(&connection, keys).await.unwrap());
    let (one, two) = (start(&[KEY, NEW]).await, start(&[KEY, NEW]).await);
    one.broker.put(vec![record(CATS, "before", "x")]).await.unwrap();
    drop(one);
    let one = start(&[NEW, KEY]).await;
    one.broker.put(vec![record(CATS, "by one", "x")]).await.unwrap();
    two.broker
        .put(vec![record(CATS, "by two", "x"), deletion(CATS, "before")])
        .await
        .unwrap();
    drop(two);
    let two = start(&[NEW, KEY]).await;
    two.broker.put(vec![record(CATS, "after", "x")]).await.unwrap();
    drop((one, two));

    let last = start(&[NEW]).await;
    let (records, versions) = all_latest(&*last.broker, "").await;
    let ids: Vec<_> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["after", "by one", "by two"]);
    let all = Versions {
        latest_record_version: 0,
        ..versions
    };
    let changes = last.broker.sync_until_now("", all).await.unwrap();
    let changes: Vec<_> = changes.map(|change| change.unwrap().id).collect().await;
    assert_eq!(changes, ["before", "by one", "by two", "before", "after"]);
}

/// By the store itself as well: a copy of other records does not go through the server.
#[tokio::test]
async fn a_zero_in_a_name_is_refused() {
    let store = open(&fresh().await).await;
    let now = jiff::Timestamp::UNIX_EPOCH;
    let refused = store
        .write(Write::Put(vec![record(CATS, "a\0b", "x")]), now)
        .await;
    assert!(
        matches!(refused, Err(pomerium_api::databroker::Error::Invalid(_))),
        "{refused:?}"
    );
    assert_eq!(store.get(CATS, "a\0b").await, Ok(None));
}

#[tokio::test]
async fn two_that_start_at_once_make_one_layout() {
    let connection = fresh().await;
    let all = future::join_all((0..8).map(|_| open(&connection))).await;
    let versions = future::join_all(all.iter().map(crate::store::Store::counters)).await;
    assert!(versions.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn tables_of_a_later_version_are_left_alone() {
    let connection = fresh().await;
    drop(open(&connection).await);
    tell(&connection, "UPDATE pomerium_rs.format SET format = 99").await;
    let error = PostgresStore::open(&connection, &[KEY])
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("format 99"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let error = PostgresStore::open("host=/nowhere user=x password=hunter2 dbname=x", &[KEY]).await;
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("/nowhere") && !error.contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let connection = fresh().await;
    let store = Subject::new(open(&connection).await);
    store.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    cut_off(&connection).await;
    store.broker.put(vec![deletion(CATS, "tom")]).await.unwrap();
    assert!(store.broker.get(CATS, "tom").await.is_err());
}

/// Fields need no declaration here, also across types; one that was declared is found all the same.
#[tokio::test]
async fn any_field_can_be_asked_for() {
    let subject = Subject::new(fresh_store().await);
    let kim = struct_record(CATS, "kim", &json!({ "made_by": { "name": "kim" }, "seats": 5 }));
    let records = vec![session("s1", "kim"), session("s2", "tom"), kim];
    subject.broker.put(records).await.unwrap();
    let find = async |record_type: &str, filter: Filter| {
        let query = Query {
            filter,
            ..of(record_type, 0, 10)
        };
        let found = subject.broker.query(query).await.unwrap().records;
        found
            .into_iter()
            .map(|record| record.id)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let is = Filter::equals;
    for declared in [vec![], vec!["user_id".to_owned()]] {
        let options = Options {
            indexable_fields: declared,
            ..Options::default()
        };
        let session_type = Session::TYPE.to_owned();
        subject.broker.set_options(session_type, options).await.unwrap();
        for (record_type, filter, wanted) in [
            (Session::TYPE, is("user_id", "kim"), "s1"),
            (Session::TYPE, is("userId", "tom"), "s2"),
            (Session::TYPE, Filter::Not(Box::new(is("user_id", "kim"))), "s2"),
            ("", is("user_id", "kim"), "s1"),
            ("", is("made_by.name", "kim"), "kim"),
            ("", is("seats", "5"), "kim"),
            (
                "",
                Filter::Or(vec![is("seats", "5"), is("user_id", "tom")]),
                "kim s2",
            ),
            ("", Filter::And(vec![is("id", "s1"), is("user_id", "tom")]), ""),
            (Session::TYPE, is("idp_id", ""), ""),
            (Session::TYPE, is("nope", "x"), ""),
        ] {
            assert_eq!(find(record_type, filter.clone()).await, wanted, "{filter:?}");
        }
    }
}

/// Under names that nobody asks for any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_ended_long_ago_go() {
    let connection = fresh().await;
    let subject = Subject::new(open(&connection).await);
    let lease = async |name: &str| {
        let request = LeaseRequest {
            name: name.to_owned(),
            ttl: Duration::from_secs(30),
            id: None,
        };
        subject.broker.lease(request).await.unwrap().unwrap()
    };
    for number in 0..5 {
        lease(&format!("old {number}")).await;
    }
    subject.clock.advance(Duration::from_secs(30 * 60));
    lease("recent").await;
    subject.clock.advance(Duration::from_secs(45 * 60));
    lease("new").await;
    let client = client(&connection).await;
    let names = "SELECT name FROM pomerium_rs.leases ORDER BY name";
    let rows = client.query(names, &[]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["new", "recent"]);
}
