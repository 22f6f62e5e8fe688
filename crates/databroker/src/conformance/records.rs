//! Single records: reading, writing, replacing, patching.

use super::*;

pub(crate) async fn unknown_record_is_not_found<S: Store>(subject: Subject<S>) {
    assert_eq!(subject.broker.get(CATS, "tom").await, Err(Error::NotFound));
    subject.put(record(DOGS, "tom", "a dog")).await;
    assert_eq!(subject.broker.get(CATS, "tom").await, Err(Error::NotFound));
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
            subject.broker.get(&stored.r#type, &stored.id).await.as_ref(),
            Ok(stored)
        );
    }
    let versions = subject.broker.versions().await.unwrap();
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
        record(CATS, "ä/\u{1F408}", "odd id"),
    ] {
        let stored = subject.put(odd.clone()).await;
        assert_eq!(stored.data, odd.data);
        assert_eq!(subject.broker.get(&odd.r#type, &odd.id).await.unwrap(), stored);
    }
    assert_eq!(all_latest(&*subject.broker, "").await.0.len(), 4);
}

fn invalid<T: std::fmt::Debug>(result: &Result<T, Error>) {
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
}

/// Whatever call they come in: too long for an index, or with a byte in them that PostgreSQL does not keep.
pub(crate) async fn names_that_not_every_store_keeps_are_refused<S: Store>(subject: Subject<S>) {
    let long = "n".repeat(1600);
    let broker = &*subject.broker;
    let here = broker.versions().await.unwrap();
    let lease = |name: &str, id: Option<&str>| {
        broker.lease(LeaseRequest {
            name: name.into(),
            ttl: Duration::from_secs(30),
            id: id.map(str::to_owned),
        })
    };
    for bad in [long.as_str(), "a\0b"] {
        for bad in [record(bad, "tom", "x"), record(CATS, bad, "x")] {
            invalid(&broker.put(vec![record(CATS, "kit", "x"), bad.clone()]).await);
            invalid(&broker.replace(bad.clone()).await);
            invalid(&broker.patch(vec![bad.clone()], Vec::new()).await);
            invalid(&broker.get(&bad.r#type, &bad.id).await);
        }
        invalid(&broker.query(of(bad, 0, 10)).await);
        invalid(&broker.options(bad).await);
        invalid(&broker.set_options(bad.into(), Options::default()).await);
        invalid(&broker.sync_latest(bad).await.map(drop));
        invalid(&broker.sync(bad, here).await.map(drop));
        invalid(&broker.sync_until_now(bad, here).await.map(drop));
        invalid(&lease(bad, None).await);
        invalid(&lease("job", Some(bad)).await);
        invalid(&broker.release_lease(bad.into(), "x".into()).await);
        invalid(&broker.release_lease("job".into(), bad.into()).await);
    }
    assert_eq!(broker.versions().await, Ok(here), "nothing was written");

    // The longest there may be, which nothing makes shorter.
    let noise: [u8; 1536] = pomerium_crypto::random::bytes();
    let id: String = noise.iter().map(|byte| char::from(b'!' + byte % 94)).collect();
    let record_type = id[..1024].to_owned();
    let stored = subject.put(record(&record_type, &id, "x")).await;
    assert_eq!(broker.get(&record_type, &id).await, Ok(stored));
    broker
        .set_options(
            record_type.clone(),
            Options {
                capacity: Some(3),
                ..Options::default()
            },
        )
        .await
        .unwrap();
    let held = lease(&record_type, None).await.unwrap().unwrap();
    broker.release_lease(record_type, held).await.unwrap();
}

pub(crate) async fn a_put_is_all_or_nothing<S: Store>(subject: Subject<S>) {
    let large = "x".repeat(5 * 1024 * 1024);
    let put = subject
        .server
        .put(vec![record(CATS, "tom", "x"), record(CATS, "big", &large)])
        .await;
    assert!(matches!(put, Err(Error::Invalid(_))), "{put:?}");
    assert_eq!(subject.broker.get(CATS, "tom").await, Err(Error::NotFound));
    assert_eq!(subject.broker.versions().await.unwrap().latest_record_version, 0);
    assert!(subject.broker.put(Vec::new()).await.unwrap().records.is_empty());
}

/// The largest record there may be, also as what a patch makes of a smaller one.
pub(crate) async fn a_patch_makes_no_record_too_large<S: Store>(subject: Subject<S>) {
    let with = |user: usize, idp: usize| {
        let session = Session {
            user_id: "u".repeat(user),
            idp_id: "i".repeat(idp),
            ..Session::default()
        };
        Record {
            id: "s1".into(),
            ..to_record(&session)
        }
    };
    let half = 2 * 1024 * 1024;
    let stored = subject.put(with(half, 0)).await;
    let patched = subject
        .broker
        .patch(vec![with(0, half)], vec!["idp_id".into()])
        .await;
    invalid(&patched);
    assert_eq!(subject.broker.get(Session::TYPE, "s1").await, Ok(stored));
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
    assert_eq!(subject.broker.get(CATS, "tom").await, Err(Error::NotFound));
    assert!(all_latest(&*subject.broker, "").await.0.is_empty());
    assert_eq!(subject.broker.query(of(CATS, 0, 10)).await.unwrap().total, 0);
    let changes: Vec<_> = subject.sync_from("", 1).await.take(1).collect().await;
    assert_eq!(changes, [Ok(tombstone)]);
    assert_eq!(subject.put(record(CATS, "tom", "back")).await.version, 3);
    assert_eq!(data(&subject.broker.get(CATS, "tom").await.unwrap()), "back");
}

pub(crate) async fn deleting_what_is_not_there_changes_nothing<S: Store>(subject: Subject<S>) {
    subject.put(deletion(CATS, "ghost")).await;
    assert_eq!(subject.broker.versions().await.unwrap().latest_record_version, 0);
    assert_eq!(subject.put(record(CATS, "tom", "x")).await.version, 1);
    let changes: Vec<_> = subject.sync_from("", 0).await.take(1).collect().await;
    assert_eq!(changes[0].as_ref().unwrap().id, "tom");
}

pub(crate) async fn replace_needs_the_version_read<S: Store>(subject: Subject<S>) {
    let first = subject.put(record(CATS, "tom", "1")).await;
    let edit = |old: &Record, text| Record {
        version: old.version,
        ..record(CATS, "tom", text)
    };
    let second = subject.broker.replace(edit(&first, "2")).await.unwrap().unwrap();
    assert_eq!((second.version, data(&second)), (2, "2"));
    assert_eq!(subject.broker.replace(edit(&first, "late")).await, Ok(None));
    assert_eq!(data(&subject.broker.get(CATS, "tom").await.unwrap()), "2");
    subject.put(deletion(CATS, "tom")).await;
    assert_eq!(subject.broker.replace(edit(&second, "undead")).await, Ok(None));
    assert_eq!(subject.broker.get(CATS, "tom").await, Err(Error::NotFound));
    assert_eq!(subject.broker.versions().await.unwrap().latest_record_version, 3);
}

/// Of many who create the same record at once one succeeds, also where it was before.
pub(crate) async fn one_of_many_creates_a_record<S: Store>(subject: Subject<S>) {
    for _ in 0..2 {
        let workers = (0..8).map(|worker: usize| {
            let server = subject.broker.clone();
            tokio::spawn(async move { server.replace(record(CATS, "tom", &worker.to_string())).await })
        });
        let created = future::try_join_all(workers).await.unwrap();
        let created: Vec<_> = created.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(created.len(), 1);
        assert_eq!(subject.broker.get(CATS, "tom").await.as_ref(), Ok(&created[0]));
        subject.put(deletion(CATS, "tom")).await;
    }
}

/// Two who read, change and write back at the same time: nobody's change is lost.
pub(crate) async fn replace_loses_no_update<S: Store>(subject: Subject<S>) {
    subject.put(record(CATS, "counter", "")).await;
    let workers = (0..2).map(|_| {
        let server = subject.broker.clone();
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
        data(&subject.broker.get(CATS, "counter").await.unwrap()).len(),
        100
    );
}

fn stored(record: &Record) -> Session {
    from_record(record).unwrap()
}

pub(crate) async fn a_patch_changes_what_it_names<S: Store>(subject: Subject<S>) {
    let before = subject.put(session("s1", "u1")).await;
    let new = Session {
        id: "ignored".into(),
        user_id: "u2".into(),
        idp_id: "idp".into(),
        ..Session::default()
    };
    let new = Record {
        id: "s1".into(),
        ..to_record(&new)
    };
    let stranger = Record {
        id: "nobody".into(),
        ..new.clone()
    };
    let patch = |records: Vec<Record>, mask: &[&str]| {
        let mask = mask.iter().map(|name| (*name).to_owned()).collect();
        subject.broker.patch(records, mask)
    };
    let reply = patch(vec![new.clone(), stranger], &["idp_id"]).await.unwrap();
    assert_eq!(reply.records.len(), 1, "who is not there is left out");
    assert!(reply.records[0].version > before.version);
    assert_eq!(
        subject.broker.get(Session::TYPE, "s1").await.as_ref(),
        Ok(&reply.records[0])
    );
    let session = stored(&reply.records[0]);
    assert_eq!(
        (
            session.id.as_str(),
            session.user_id.as_str(),
            session.idp_id.as_str()
        ),
        ("s1", "u1", "idp")
    );

    let again = patch(vec![new.clone()], &[]).await.unwrap();
    assert_eq!(stored(&again.records[0]), session, "nothing is named");
    assert!(again.records[0].version > reply.records[0].version);
    let wrong = patch(vec![new.clone(), new.clone()], &["nope"]).await;
    assert!(matches!(wrong, Err(Error::Invalid(_))), "{wrong:?}");
    assert_eq!(
        subject.broker.get(Session::TYPE, "s1").await.as_ref(),
        Ok(&again.records[0])
    );
}

pub(crate) async fn patches_lose_no_update<S: Store>(subject: Subject<S>) {
    subject.put(session("s1", "start")).await;
    for round in 0..50 {
        let value = format!("{round}");
        let patch = |field: &'static str, session: Session| {
            let record = Record {
                id: "s1".into(),
                ..to_record(&session)
            };
            subject.broker.patch(vec![record], vec![field.into()])
        };
        let user = Session {
            user_id: value.clone(),
            ..Session::default()
        };
        let idp = Session {
            idp_id: value.clone(),
            ..Session::default()
        };
        let (one, two) = future::join(patch("user_id", user), patch("idp_id", idp)).await;
        one.and(two).unwrap();
        let session = stored(&subject.broker.get(Session::TYPE, "s1").await.unwrap());
        assert_eq!((&session.user_id, &session.idp_id), (&value, &value));
    }
}

pub(crate) async fn reads_and_writes_run_side_by_side<S: Store>(subject: Subject<S>) {
    let tasks = (0..500).map(|i: u32| {
        let server = subject.broker.clone();
        tokio::spawn(async move {
            let id = (i % 10).to_string();
            server.put(vec![record("", &id, "x")]).await.unwrap();
            assert_eq!(server.get("", &id).await.unwrap().id, id);
        })
    });
    future::try_join_all(tasks).await.unwrap();
    assert_eq!(
        subject.broker.versions().await.unwrap().latest_record_version,
        500
    );
}
