//! `pomerium_api::synced` over a real server, with the connection between them under our control.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod observer;
mod parts;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use pomerium_api::clock::ManualClock;
use pomerium_api::databroker::{Databroker, Error, Versions};
use pomerium_api::pb::pomerium::events::LastError;
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::{ServiceAccount, User};
use pomerium_api::records::{to_record, to_tombstone};
use pomerium_api::synced::{Entry, SyncedRecords};
use pomerium_databroker::{MemoryStore, RETENTION, Server};
use tokio::sync::oneshot;

use world::{running, session, still, until};

#[tokio::test]
async fn records_of_all_types_are_there_and_follow() {
    let world = running().await;
    assert_eq!(world.records.session("a").unwrap().session.user_id, "member");
    let generation = world.records.generation();
    world
        .put(&User {
            id: "member".into(),
            email: "member@example.com".into(),
            ..User::default()
        })
        .await;
    let at = world
        .put(&ServiceAccount {
            id: "robot".into(),
            ..ServiceAccount::default()
        })
        .await;
    until(&world.records, |records| {
        records.service_account("robot").is_some()
    })
    .await;
    let user = world.records.user("member").unwrap();
    assert_eq!(
        (user.user.email.as_str(), user.version),
        ("member@example.com", 3)
    );
    assert_eq!(world.records.position(), Some(at));
    assert!(world.records.generation() > generation);
    assert!(world.records.session("robot").is_none(), "types do not mix");
}

#[tokio::test]
async fn a_deleted_session_is_gone_at_once() {
    let world = running().await;
    world.delete("a").await;
    until(&world.records, |records| records.session("a").is_none()).await;
    assert!(world.records.session("b").is_some());
}

#[tokio::test]
async fn a_cleared_database_leaves_nothing_behind() {
    let world = running().await;
    let server_version = world.link.server.clear().await.unwrap().new;
    until(&world.records, |records| {
        records.session("a").is_none() && records.session("b").is_none()
    })
    .await;
    world.put(&session("c", "auditor")).await;
    until(&world.records, |records| records.session("c").is_some()).await;
    assert_eq!(world.records.session("c").unwrap().server_version, server_version);
}

#[tokio::test]
async fn after_a_long_absence_what_is_gone_is_removed() {
    let world = running().await;
    world.link.cut().await;
    world.delete("a").await;
    world.put(&session("c", "auditor")).await;
    world.clock.advance(RETENTION * 2);
    assert_eq!(
        world.link.server.trim().await,
        Ok(3),
        "the log tells of the newest change only"
    );
    assert!(world.records.session("a").is_some(), "cut off: it cannot know");
    world.link.up.send_replace(true);
    until(&world.records, |records| {
        records.session("c").is_some() && records.session("a").is_none()
    })
    .await;
    assert!(world.records.session("b").is_some());
}

#[tokio::test]
async fn a_short_absence_is_caught_up() {
    let world = running().await;
    world.link.cut().await;
    world.delete("a").await;
    world.put(&session("b", "robert")).await;
    world.link.up.send_replace(true);
    until(&world.records, |records| {
        records
            .session("b")
            .is_some_and(|b| b.session.user_id == "robert")
    })
    .await;
    assert!(world.records.session("a").is_none());
}

#[tokio::test]
async fn what_cannot_be_read_is_not_believed_as_it_was() {
    let world = running().await;
    let mut broken = to_record(&session("a", "member"));
    broken.data.as_mut().unwrap().value = vec![0xff; 3];
    world.link.put(vec![broken]).await.unwrap();
    until(&world.records, |records| records.session("a").is_none()).await;
    assert_eq!(world.records.fetch_session("a", None).await, Ok(None));
}

#[tokio::test]
async fn it_ends_when_told_to_and_is_not_ready_before() {
    let (link, _, records) = still();
    link.up.send_replace(false);
    let (stop, stopped) = oneshot::channel::<()>();
    let run = tokio::spawn(records.clone().run(stopped.map(drop)));
    assert!(records.wait_ready().now_or_never().is_none() && !records.ready());
    link.up.send_replace(true);
    records.wait_ready().await;
    drop(stop);
    run.await.unwrap();
}

/// Nobody who is let in is judged again because a refresh failed.
#[tokio::test]
async fn what_went_wrong_is_no_change() {
    let world = running().await;
    let generation = world.records.generation();
    world
        .put(&LastError {
            id: "identity_manager_last_user_refresh_error".into(),
            ..LastError::default()
        })
        .await;
    world.put(&session("c", "member")).await;
    until(&world.records, |records| records.session("c").is_some()).await;
    assert_eq!(world.records.generation(), generation + 1);
}

#[tokio::test]
async fn a_missing_session_is_asked_for_once_by_all() {
    let (link, _, records) = still();
    link.put(vec![to_record(&session("a", "member"))]).await.unwrap();
    let gate = link.hold();
    let fetches = (0..10).map(|_| {
        let records = records.clone();
        tokio::spawn(async move { records.fetch_session("a", None).await })
    });
    let fetches: Vec<_> = fetches.collect();
    while link.gets() == 0 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(10);
    for fetch in fetches {
        assert_eq!(fetch.await.unwrap().unwrap().unwrap().session.user_id, "member");
    }
    assert_eq!(link.gets(), 1);
    assert!(records.session("a").is_some(), "it is kept");
}

#[tokio::test]
async fn what_is_known_is_not_asked_for() {
    let world = running().await;
    let here = world.records.position();
    assert!(world.records.fetch_session("a", None).await.unwrap().is_some());
    assert!(world.records.fetch_session("b", here).await.unwrap().is_some());
    assert_eq!(world.records.fetch_session("nobody", here).await, Ok(None));
    assert_eq!(world.link.gets(), 0);
    assert_eq!(world.records.fetch_session("nobody", None).await, Ok(None));
    assert_eq!(
        world.link.gets(),
        1,
        "without a place to compare with, it might be new"
    );
}

/// The handle of a session just written elsewhere is newer than our copy.
#[tokio::test]
async fn an_older_copy_than_asked_for_is_renewed() {
    let world = running().await;
    world.link.cut().await;
    let at = world.put(&session("a", "member-2")).await;
    assert!(matches!(
        world.records.fetch_session("a", Some(at)).await,
        Err(Error::Unavailable(_))
    ));
    world.link.up.send_replace(true);
    let renewed = world.records.fetch_session("a", Some(at)).await.unwrap().unwrap();
    assert_eq!(renewed.session.user_id, "member-2");
}

/// The answer was read before the session was deleted, and comes after the tombstone.
#[tokio::test]
async fn a_late_answer_does_not_raise_the_dead() {
    let world = running().await;
    world.put(&session("c", "auditor")).await;
    until(&world.records, |records| records.session("c").is_some()).await;
    let gate = world.link.hold();
    let future = Versions {
        latest_record_version: 99,
        ..world.records.position().unwrap()
    };
    let fetch = tokio::spawn({
        let records = world.records.clone();
        async move { records.fetch_session("c", Some(future)).await }
    });
    while world.link.gets() == 0 {
        tokio::task::yield_now().await;
    }
    world.delete("c").await;
    until(&world.records, |records| records.session("c").is_none()).await;
    gate.add_permits(10);
    assert_eq!(fetch.await.unwrap(), Ok(None));
    assert!(world.records.session("c").is_none());
}

/// The question was asked before the session was written; who knows of the write asks again.
#[tokio::test]
async fn a_question_asked_too_early_is_asked_again() {
    let (link, _, records) = still();
    let gate = link.hold();
    let early = tokio::spawn({
        let records = records.clone();
        async move { records.fetch_session("a", None).await }
    });
    while link.gets() == 0 {
        tokio::task::yield_now().await;
    }
    let reply = link.put(vec![to_record(&session("a", "member"))]).await.unwrap();
    let min = Versions {
        server_version: reply.server_version,
        latest_record_version: 1,
    };
    let (late, ()) = tokio::join!(records.fetch_session("a", Some(min)), async {
        tokio::task::yield_now().await;
        gate.add_permits(10);
    });
    assert_eq!(late.unwrap().unwrap().session.user_id, "member");
    let early = early.await.unwrap().unwrap();
    assert!(early.is_none_or(|entry| entry.session.user_id == "member"));
}

#[tokio::test]
async fn one_who_gives_up_does_not_hinder_the_others() {
    let (link, _, records) = still();
    link.put(vec![to_record(&session("a", "member"))]).await.unwrap();
    let gate = link.hold();
    let abandoned = tokio::time::timeout(Duration::from_millis(10), records.fetch_session("a", None)).await;
    assert!(abandoned.is_err());
    gate.add_permits(10);
    assert!(records.fetch_session("a", None).await.unwrap().is_some());
}

#[tokio::test]
async fn own_writes_can_be_taken_over_without_waiting() {
    let world = running().await;
    world.link.cut().await;
    let reply = world
        .link
        .put(vec![to_record(&session("c", "auditor"))])
        .await
        .unwrap();
    world.records.apply(reply.server_version, &reply.records[0]);
    assert!(world.records.session("c").is_some());
    let tombstone = to_tombstone(&session("c", "auditor"), Timestamp::UNIX_EPOCH);
    let reply = world.link.put(vec![tombstone]).await.unwrap();
    world.records.apply(reply.server_version, &reply.records[0]);
    assert!(world.records.session("c").is_none());
    world
        .records
        .apply(reply.server_version ^ 1, &to_record(&session("d", "dora")));
    assert!(world.records.session("d").is_none(), "of another database");
}

/// Everybody has the same entry for as long as anybody has it: by that they tell that nothing changed.
#[tokio::test]
async fn an_entry_is_one_while_somebody_has_it_and_another_one_after_a_change() {
    let world = running().await;
    let first = world.records.session("a").unwrap();
    assert!(Arc::ptr_eq(&first, &world.records.session("a").unwrap()));
    let used = Session {
        accessed_at: Some(prost_types::Timestamp {
            seconds: 77,
            nanos: 0,
        }),
        ..session("a", "member")
    };
    let at = world.put(&used).await;
    // Nobody is told of it.
    let arrival = async {
        while world.records.position().is_none_or(|position| position != at) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrival)
        .await
        .expect("it never came to be");
    assert!(
        Arc::ptr_eq(&first, &world.records.session("a").unwrap()),
        "that it was used changes nothing"
    );
    assert_eq!(Entry::at(&*first), at, "but where it stands is known");
    drop(first);
    let again = world.records.session("a").unwrap();
    assert_eq!(
        (again.session.user_id.as_str(), Entry::at(&*again)),
        ("member", at)
    );
    world.put(&session("a", "operator")).await;
    until(&world.records, |records| {
        records
            .session("a")
            .is_some_and(|entry| entry.session.user_id == "operator")
    })
    .await;
    assert!(!Arc::ptr_eq(&again, &world.records.session("a").unwrap()));
}

#[tokio::test]
async fn a_process_that_judges_nobody_keeps_configuration_alone() {
    let broker = Arc::new(Server::new(
        MemoryStore::new(),
        Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
    ));
    let route = |id: &str| {
        pomerium_api::config_records::from_json("Route", id, &serde_json::json!({ "name": id })).unwrap()
    };
    broker
        .put(vec![to_record(&session("a", "member")), route("one")])
        .await
        .unwrap();
    let records = SyncedRecords::of_configuration(broker.clone());
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(records.clone().run(stopped.map(drop)));
    records.wait_ready().await;
    let ids = |records: &SyncedRecords| -> Vec<String> {
        records
            .config_records()
            .iter()
            .map(|record| record.id.clone())
            .collect()
    };
    assert_eq!(ids(&records), ["one"]);
    assert!(records.session("a").is_none());
    broker
        .put(vec![to_record(&session("b", "member")), route("two")])
        .await
        .unwrap();
    until(&records, |records| ids(records) == ["one", "two"]).await;
    assert!(records.session("b").is_none());
    broker.clear().await.unwrap();
    until(&records, |records| ids(records).is_empty()).await;
}
