//! A database server that is gone, slow, read-only, restarted under load, or changed by a later version.

use std::sync::Arc;

use futures_util::{StreamExt, future};
use pomerium_api::databroker::{Error, Record, Versions};

use super::PostgresStore;
use super::running::Postgres;
use super::tests::{KEY, client, cut_off, fresh, fresh_on, open, tell};
use crate::conformance::{CATS, Subject, all_latest, of, record};
use crate::seal::{Place, Sealer};
use crate::store::{Store, Write};

/// A server of its own: these tests do to it what others must not see.
async fn own() -> Postgres {
    tokio::task::spawn_blocking(|| Postgres::start().unwrap())
        .await
        .unwrap()
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// What was acknowledged before, during and after is there; what failed may be tried again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_nothing() {
    let mut server = own().await;
    // What a failing-over server must not lose, it must have flushed.
    let connection = fresh_on(&server).await;
    let subject = Subject::new(open(&connection).await);
    let (acknowledged, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let writers: Vec<_> = (0..4)
        .map(|writer: u32| {
            let (broker, acknowledged) = (Arc::clone(&subject.broker), acknowledged.clone());
            tokio::spawn(async move {
                let mut failures = 0;
                for i in 0_u32.. {
                    let id = format!("{writer}.{i}");
                    match broker.put(vec![record(CATS, &id, "x")]).await {
                        Ok(_) => {
                            if acknowledged.send(id).is_err() {
                                break;
                            }
                        }
                        Err(Error::Unavailable(_)) => failures += 1,
                        Err(other) => panic!("{other}"),
                    }
                    tokio::task::yield_now().await;
                }
                failures
            })
        })
        .collect();
    drop(acknowledged);
    let mut stored = Vec::new();
    for _ in 0..3 {
        for _ in 0..60 {
            stored.push(heard.recv().await.unwrap());
        }
        server = tokio::task::spawn_blocking(move || {
            server.crash().unwrap();
            server.go_on().unwrap();
            server
        })
        .await
        .unwrap();
    }
    for _ in 0..60 {
        stored.push(heard.recv().await.unwrap());
    }
    heard.close();
    while let Some(id) = heard.recv().await {
        stored.push(id);
    }
    let failures: u32 = future::join_all(writers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    assert!(failures > 0, "it was down for a while");
    let (records, versions) = all_latest(&*subject.broker, "").await;
    let there: std::collections::HashSet<String> = records.into_iter().map(|record| record.id).collect();
    for id in &stored {
        assert!(there.contains(id), "{id} is lost");
    }
    let all = Versions {
        latest_record_version: 0,
        ..versions
    };
    let changes = subject.broker.sync_until_now("", all).await.unwrap();
    let changes: Vec<u64> = changes.map(|change| change.unwrap().version).collect().await;
    assert_eq!(changes, (1..=versions.latest_record_version).collect::<Vec<_>>());
}

/// A stream hears of writes that others make after a restart, though the connection it was told by is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_goes_on_after_a_restart() {
    let mut server = own().await;
    let connection = fresh_on(&server).await;
    let (one, two) = (
        Subject::new(open(&connection).await),
        Subject::new(open(&connection).await),
    );
    let here = two.broker.versions().await.unwrap();
    server = tokio::task::spawn_blocking(move || {
        server.crash().unwrap();
        server
    })
    .await
    .unwrap();
    unavailable(one.broker.put(vec![record(CATS, "while it is gone", "x")]).await);
    unavailable(two.broker.get(CATS, "tom").await);
    let _server = tokio::task::spawn_blocking(move || {
        server.go_on().unwrap();
        server
    })
    .await
    .unwrap();
    let mut following = two.broker.sync("", here).await.unwrap();
    one.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    assert_eq!(following.next().await.unwrap().unwrap().id, "tom");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_told_apart() {
    let server = own().await;
    let connection = fresh_on(&server).await;
    let subject = Subject::new(open(&connection).await);
    subject.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    tell(
        &connection,
        "ALTER ROLE postgres SET default_transaction_read_only = on",
    )
    .await;
    cut_off(&connection).await;
    let why = unavailable(subject.broker.put(vec![record(CATS, "kit", "x")]).await);
    assert!(
        why.contains("read-only") && why.contains("target_session_attrs=read-write"),
        "{why}"
    );
    assert!(subject.broker.get(CATS, "tom").await.is_ok(), "reading goes on");
    let again = PostgresStore::open(&connection, &[KEY]).await;
    assert!(again.is_ok(), "a replica is enough to read: {:?}", again.err());
    tell(
        &connection,
        "SET transaction_read_only = off; ALTER ROLE postgres RESET default_transaction_read_only",
    )
    .await;
    subject.broker.put(vec![record(CATS, "kit", "x")]).await.unwrap();
}

/// Somebody holds what every write needs. The write ends with an error, and those who read are not kept waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_held_up_gives_up_and_reading_goes_on() {
    let connection = fresh().await;
    let subject = Subject::new(open(&format!("{connection} pool_max_conns=4")).await);
    subject.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let blocker = client(&connection).await;
    blocker
        .batch_execute("BEGIN; SELECT * FROM pomerium_rs.about FOR UPDATE")
        .await
        .unwrap();
    let writes = (0..6).map(|i| {
        let broker = Arc::clone(&subject.broker);
        tokio::spawn(async move { broker.put(vec![record(CATS, &i.to_string(), "x")]).await })
    });
    let writes: Vec<_> = writes.collect();
    for _ in 0..50 {
        assert!(subject.broker.get(CATS, "tom").await.is_ok());
    }
    let first = future::select_all(writes).await;
    let why = unavailable(first.0.unwrap());
    assert!(
        why.contains("lock timeout") || why.contains("did not answer"),
        "{why}"
    );
    blocker.batch_execute("COMMIT").await.unwrap();
    for write in first.2 {
        // Those that had not given up yet are made.
        let _ = write.await.unwrap();
    }
    subject
        .broker
        .put(vec![record(CATS, "after", "x")])
        .await
        .unwrap();
}

/// The end of a transaction is sent behind its statements, before the answers to them are known: one that failed leaves
/// nothing behind, and the connection to whoever writes next.
#[tokio::test]
async fn a_write_that_fails_half_way_leaves_nothing() {
    let connection = fresh().await;
    let subject = Subject::new(open(&format!("{connection} pool_max_conns=2")).await);
    subject.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let before = subject.broker.versions().await.unwrap();
    tell(
        &connection,
        "ALTER TABLE pomerium_rs.records ADD CONSTRAINT no_dogs CHECK (id <> 'dog')",
    )
    .await;
    let records = || vec![record(CATS, "kit", "x"), record(CATS, "dog", "x")];
    for _ in 0..3 {
        let why = unavailable(subject.broker.put(records()).await);
        assert!(why.contains("no_dogs"), "{why}");
    }
    assert_eq!(subject.broker.versions().await, Ok(before));
    assert_eq!(subject.broker.get(CATS, "kit").await, Err(Error::NotFound));
    let reply = subject.broker.put(vec![record(CATS, "kit", "x")]).await.unwrap();
    assert_eq!(reply.records[0].version, before.latest_record_version + 1);
}

/// A server that is there and says nothing: the call ends all the same.
#[tokio::test]
async fn a_silent_server_is_not_waited_for_without_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let target = format!("host=127.0.0.1 port={port} user=x dbname=x sslmode=disable connect_timeout=1");
    let error = PostgresStore::open(&target, &[KEY])
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("127.0.0.1") && error.contains("check databroker_storage"),
        "{error}"
    );
    accepted.abort();
}

/// What it comes to within the time for two calls.
async fn soon<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(super::PATIENCE * 2, answer)
        .await
        .expect("it is waited for without end")
}

/// A server that stops in the middle of an answer: whatever is asked ends, and whoever follows is told. The clock of this test
/// goes on whenever there is nothing else to wait for.
#[tokio::test]
async fn a_server_that_falls_silent_is_not_waited_for_without_end() {
    let server = own().await;
    let subject = Subject::new(open(&fresh_on(&server).await).await);
    let store = open(&fresh_on(&server).await).await;
    let (records, changes): (Vec<_>, Vec<_>) = (0..700)
        .map(|i| (record(CATS, &format!("{i:03}"), "x"), record(CATS, "same", "x")))
        .unzip();
    subject.broker.put(records.clone()).await.unwrap();
    subject.broker.put(changes).await.unwrap();
    let here = subject.broker.versions().await.unwrap();
    let mut following = subject.broker.sync("", here).await.unwrap();
    let mut all = subject.broker.sync_latest("").await.unwrap();
    let mut read = 0;
    // More than a page is never read ahead.
    while read < 512 {
        all.next().await.unwrap().unwrap();
        read += 1;
    }
    server.fall_silent().unwrap();
    tokio::time::pause();
    unavailable(soon(all.next()).await.unwrap());
    unavailable(soon(subject.broker.query(of(CATS, 0, 10))).await);
    unavailable(soon(store.inspect()).await);
    unavailable(soon(following.next()).await.unwrap());
    tokio::time::resume();
    server.wake_up().unwrap();
    subject
        .broker
        .put(vec![record(CATS, "after", "x")])
        .await
        .unwrap();
}

#[tokio::test]
async fn tables_changed_by_a_later_version_take_no_writes_of_this_one() {
    let connection = fresh().await;
    let subject = Subject::new(open(&connection).await);
    subject.broker.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    tell(&connection, "UPDATE pomerium_rs.format SET format = 99").await;
    let why = unavailable(subject.broker.put(vec![record(CATS, "kit", "x")]).await);
    assert!(
        why.contains("format 99") && why.contains("later version"),
        "{why}"
    );
}

#[tokio::test]
async fn tables_of_the_first_format_are_brought_up_to_date() {
    let connection = fresh().await;
    drop(open(&connection).await);
    tell(
        &connection,
        "ALTER TABLE pomerium_rs.about DROP COLUMN standing; DROP TABLE pomerium_rs.services;
         UPDATE pomerium_rs.format SET format = 1",
    )
    .await;
    let all = future::join_all((0..4).map(|_| open(&connection))).await;
    let counters = all[0].counters().await.unwrap();
    assert_eq!(counters.standing, crate::store::Standing::Own);
    let format: i32 = client(&connection)
        .await
        .query_one("SELECT format FROM pomerium_rs.format", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(format, 3);
}

/// Everybody who follows is told of a clear within moments, by the word of the server and not by looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_is_seen_by_every_other_at_once() {
    let connection = fresh().await;
    let stores: Vec<_> =
        future::join_all((0..4).map(|_| async { Subject::new(open(&connection).await) })).await;
    stores[0]
        .broker
        .put(vec![record(CATS, "tom", "x")])
        .await
        .unwrap();
    let here = stores[0].broker.versions().await.unwrap();
    let followers: Vec<_> =
        future::join_all(stores[1..].iter().map(|store| store.broker.sync("", here))).await;
    let cleared = stores[0].broker.clear().await.unwrap();
    for (follower, store) in followers.into_iter().zip(&stores[1..]) {
        assert_eq!(follower.unwrap().next().await, Some(Err(Error::Resync)));
        assert_eq!(store.broker.versions().await.unwrap().server_version, cleared.new);
        assert_eq!(store.broker.get(CATS, "tom").await, Err(Error::NotFound));
    }
}

/// The connection that hears of writes ends. What is written while nobody hears is seen all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_word_is_made_up_for() {
    let connection = fresh().await;
    let subject = Subject::new(open(&connection).await);
    let here = subject.broker.versions().await.unwrap();
    let mut following = subject.broker.sync("", here).await.unwrap();
    let waiting = tokio::spawn(async move { (following.next().await, following) });
    let database = client(&connection).await;
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'LISTEN %'";
    // Until it has begun to listen.
    while database.query_one(ended, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    commit_silently(&database, 1).await;
    let (change, mut following) = waiting.await.unwrap();
    assert_eq!(
        change.unwrap().unwrap().id,
        "silent 1",
        "once it hears again, it looks"
    );
    commit_silently(&database, 2).await;
    let change = tokio::time::timeout(super::listen::LOOK * 3, following.next()).await;
    assert_eq!(
        change.unwrap().unwrap().unwrap().id,
        "silent 2",
        "it looks without a word"
    );
}

/// A write of another databroker that nobody is told of.
async fn commit_silently(database: &tokio_postgres::Client, version: u32) {
    let change = Record {
        version: version.into(),
        ..record(CATS, &format!("silent {version}"), "x")
    };
    let sealed = Sealer::new(&[KEY]).seal(&change, &Place::Change(change.version));
    database
        .execute(
            "WITH at AS (UPDATE pomerium_rs.about SET latest = $1 RETURNING latest)
             INSERT INTO pomerium_rs.changes (version, type, modified_at, value) SELECT latest, $2, now(), $3 FROM at",
            &[&i64::from(version), &CATS, &sealed],
        )
        .await
        .unwrap();
}

/// Several that write and delete the same records, each in its own order, wait for each other and never in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_several_databrokers_do_not_lock_each_other_out() {
    let connection = fresh().await;
    let stores: Vec<_> =
        future::join_all((0..3).map(|_| async { Subject::new(open(&connection).await) })).await;
    let work = stores.iter().enumerate().map(|(number, store)| {
        let broker = Arc::clone(&store.broker);
        tokio::spawn(async move {
            for round in 0..15_usize {
                let ids = (0..12).map(|i| ((i * (number + 1) + round) % 13).to_string());
                let records = ids.enumerate().map(|(i, id)| match (i + round + number) % 3 {
                    0 => crate::conformance::deletion(CATS, &id),
                    _ => record(CATS, &id, "x"),
                });
                broker.put(records.collect()).await.unwrap();
            }
        })
    });
    future::try_join_all(work).await.unwrap();
    for store in &stores {
        store.server.clean().await.unwrap();
    }
}

/// More callers than connections: they wait their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_pool_serves_many() {
    let connection = fresh().await;
    let subject = Subject::new(open(&format!("{connection} pool_max_conns=2")).await);
    let calls = (0..100_u32).map(|i| {
        let broker = Arc::clone(&subject.broker);
        tokio::spawn(async move {
            let id = i.to_string();
            broker.put(vec![record(CATS, &id, "x")]).await.unwrap();
            broker.get(CATS, &id).await.unwrap();
        })
    });
    future::try_join_all(calls).await.unwrap();
    let used: i64 = client(&connection)
        .await
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pomerium'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(used <= 3, "two connections and the one that listens, not {used}");
}

#[tokio::test]
async fn a_copy_takes_no_writes_of_its_own() {
    let store = open(&fresh().await).await;
    let now = jiff::Timestamp::UNIX_EPOCH;
    store
        .write(Write::Copy(crate::store::Copy::Begin), now)
        .await
        .unwrap();
    let refused = store.write(Write::Put(vec![record(CATS, "tom", "x")]), now).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}
