//! Reading everything and following changes; what is forgotten.

use super::*;

pub(crate) async fn latest_gives_each_record_once_in_order<S: Store>(subject: Subject<S>) {
    let ids: Vec<String> = (0..100).rev().map(|i| format!("{i:03}")).collect();
    for id in &ids {
        subject
            .put(record(if id.ends_with('3') { DOGS } else { CATS }, id, "1"))
            .await;
    }
    let records = ids.iter().map(|id| record(CATS, id, "2")).collect();
    subject.broker.put(records).await.unwrap();
    let (records, versions) = all_latest(&*subject.broker, "").await;
    let keys: Vec<_> = records
        .iter()
        .map(|record| (record.r#type.clone(), record.id.clone()))
        .collect();
    assert_eq!(keys.len(), 110);
    assert!(keys.is_sorted());
    assert_eq!(versions.latest_record_version, 200);
    let (dogs, _) = all_latest(&*subject.broker, DOGS).await;
    assert_eq!(dogs.len(), 10);
    assert!(dogs.iter().all(|dog| dog.r#type == DOGS));
    assert!(
        all_latest(&*subject.broker, "example.com/c").await.0.is_empty(),
        "no prefix match"
    );
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
        let server = subject.broker.clone();
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
    let server = subject.broker.clone();
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
        let (records, at) = all_latest(&*subject.broker, "").await;
        let mut seen: BTreeMap<_, _> = records
            .into_iter()
            .map(|record| (record.id.clone(), record))
            .collect();
        let until = subject.broker.versions().await.unwrap().latest_record_version;
        let mut stream = subject.broker.sync("", at).await.unwrap();
        for expected in at.latest_record_version + 1..=until {
            let change = stream.next().await.unwrap().unwrap();
            assert_eq!(change.version, expected);
            match change.deleted_at {
                // It may have gone before its page was read.
                Some(_) => drop(seen.remove(&change.id)),
                None => drop(seen.insert(change.id.clone(), change)),
            }
        }
        if subject.broker.versions().await.unwrap().latest_record_version == until {
            let (truth, at) = all_latest(&*subject.broker, "").await;
            // What was written while it was read may be in it.
            let quiet = subject.broker.versions().await.unwrap().latest_record_version == until;
            if at.latest_record_version == until && quiet {
                assert_eq!(seen.into_values().collect::<Vec<_>>(), truth);
            }
        }
    }
    writer.await.unwrap();
    let (truth, at) = all_latest(&*subject.broker, "").await;
    let all = Versions {
        latest_record_version: 0,
        ..at
    };
    let mut seen = BTreeMap::new();
    let mut stream = subject.broker.sync_until_now("", all).await.unwrap();
    while let Some(change) = stream.next().await {
        let change = change.unwrap();
        match change.deleted_at {
            Some(_) => drop(seen.remove(&change.id)),
            None => drop(seen.insert(change.id.clone(), change)),
        }
    }
    assert_eq!(seen.into_values().collect::<Vec<_>>(), truth);
}

pub(crate) async fn a_place_in_the_log_must_be_known<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "tom", "x")).await;
    let here = subject.broker.versions().await.unwrap();
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
    let here = subject.broker.versions().await.unwrap();
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
    assert_eq!(subject.server.trim().await, Ok(1), "the newest stays");
    assert_eq!(subject.server.trim().await, Ok(0));
    let info = subject.broker.info().await.unwrap();
    assert_eq!((info.earliest, info.latest), (2, 2));
    assert_eq!(
        subject.put(record(CATS, "c", "x")).await.version,
        3,
        "versions are never used again"
    );
    assert_eq!(all_latest(&*subject.broker, "").await.0.len(), 3);
}

pub(crate) async fn clear_starts_a_new_database<S: Store>(subject: Subject<S>) {
    for id in ["a", "b", "c"] {
        subject.put(record(CATS, id, "x")).await;
    }
    let before = subject.broker.versions().await.unwrap();
    let mut following = subject.broker.sync("", before).await.unwrap();
    let waiting = tokio::spawn(async move { following.next().await });
    let held = lease(&subject, None).await.expect("nobody holds it");
    let capacity = Options {
        capacity: Some(3),
        ..Options::default()
    };
    subject.broker.set_options(CATS.into(), capacity).await.unwrap();
    let cleared = subject.broker.clear().await.unwrap();
    assert_eq!(cleared.old, before.server_version);
    let server_version = cleared.new;
    assert_ne!(server_version, before.server_version);
    assert_eq!(lease(&subject, None).await, None, "leases stay");
    assert_eq!(lease(&subject, Some(&held)).await, Some(held));
    assert_eq!(subject.broker.options(CATS).await.unwrap(), None);
    assert_eq!(waiting.await.unwrap(), Some(Err(Error::Resync)));
    let (records, at) = all_latest(&*subject.broker, "").await;
    assert!(records.is_empty());
    assert_eq!(
        at,
        Versions {
            server_version,
            latest_record_version: 0
        }
    );
    assert!(subject.resync(before).await);
    assert_eq!(subject.broker.get(CATS, "a").await, Err(Error::NotFound));
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
        subject.broker.versions().await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(
        subject.broker.put(vec![record(CATS, "x", "x")]).await,
        Err(Error::Unavailable(_))
    ));
}

pub(crate) async fn dropping_the_server_ends_the_streams<S: Store>(subject: Subject<S>) {
    let mut stream = subject.sync_from("", 0).await;
    drop(subject);
    assert!(matches!(stream.next().await, Some(Err(Error::Unavailable(_)))));
    assert_eq!(stream.next().await, None);
}
