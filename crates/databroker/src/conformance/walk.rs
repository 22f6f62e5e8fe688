//! What the list of spec databroker.md 18 asks for and is said nowhere else.

use super::*;

/// A3: also of a record that never was.
pub(crate) async fn a_stream_that_ends_tells_everything_so_far<S: Store>(subject: Subject<S>) {
    subject.put(deletion(CATS, "ghost")).await;
    let here = subject.broker.versions().await.unwrap();
    let until_now = async |version| {
        let from = Versions {
            latest_record_version: version,
            ..here
        };
        let stream = subject.broker.sync_until_now("", from).await.unwrap();
        stream.map(|change| change.unwrap().id).collect::<Vec<_>>().await
    };
    assert_eq!(until_now(0).await, Vec::<String>::new(), "it ends all the same");
    for id in ["a", "b", "c"] {
        subject.put(record(CATS, id, "x")).await;
    }
    assert_eq!(until_now(0).await, ["a", "b", "c"]);
    assert_eq!(until_now(1).await, ["b", "c"]);
    assert_eq!(until_now(3).await, Vec::<String>::new());
}

/// A4.
pub(crate) async fn the_last_three_of_ten_are_kept<S: Store>(subject: Subject<S>) {
    let options = Options {
        capacity: Some(3),
        ..Options::default()
    };
    subject.broker.set_options(CATS.into(), options).await.unwrap();
    for i in 0..10 {
        subject.put(record(CATS, &i.to_string(), "x")).await;
    }
    let (records, _) = all_latest(&*subject.broker, CATS).await;
    let ids: Vec<_> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["7", "8", "9"]);
}

/// A13.
pub(crate) async fn types_are_told_while_records_come<S: Store>(subject: Subject<S>) {
    let tasks = (0..100_u32).map(|i| {
        let server = subject.broker.clone();
        tokio::spawn(async move {
            let name = format!("example.com/{}", i % 7);
            server
                .put(vec![record(&name, &i.to_string(), "x")])
                .await
                .unwrap();
            let types = server.types().await.unwrap();
            assert!(types.is_sorted());
            assert!(types.contains(&name));
        })
    });
    future::try_join_all(tasks).await.unwrap();
    assert_eq!(subject.broker.types().await.unwrap().len(), 7);
}

/// A16.
pub(crate) async fn capacity_and_time_go_together<S: Store>(subject: Subject<S>) {
    let options = Options {
        capacity: Some(5),
        ttl: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Options::default()
    };
    subject.broker.set_options(CATS.into(), options).await.unwrap();
    for i in 0..10 {
        subject.put(record(CATS, &i.to_string(), "x")).await;
    }
    subject.server.clean().await.unwrap();
    assert_eq!(all_latest(&*subject.broker, CATS).await.0.len(), 5);
    let here = subject.broker.versions().await.unwrap();
    subject.clock.advance(Duration::from_secs(61));
    subject.server.clean().await.unwrap();
    assert_eq!(all_latest(&*subject.broker, CATS).await.0.len(), 0);
    let gone = subject.broker.sync(CATS, here).await.unwrap().take(5);
    let gone: Vec<_> = gone
        .map(|change| change.unwrap().deleted_at.is_some())
        .collect()
        .await;
    assert_eq!(gone, [true; 5]);
}

/// B2, B5, B6.
pub(crate) async fn an_index_follows_its_records<S: Store>(subject: Subject<S>) {
    let declare = |fields: &[&str]| {
        let options = Options {
            indexable_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            ..Options::default()
        };
        subject.broker.set_options(Session::TYPE.into(), options)
    };
    let find = async |field: &str, value: &str| {
        let query = Query {
            filter: Filter::equals(field, value),
            ..of(Session::TYPE, 0, 100)
        };
        let page = subject.broker.query(query).await.unwrap();
        page.records
            .into_iter()
            .map(|record| record.id)
            .collect::<Vec<_>>()
    };
    declare(&["user_id"]).await.unwrap();
    subject.put(session("s1", "u1")).await;
    subject.put(deletion(Session::TYPE, "s1")).await;
    assert_eq!(find("user_id", "u1").await, Vec::<String>::new());
    subject.put(session("s2", "u1")).await;
    assert_eq!(find("user_id", "u1").await, ["s2"], "only the one that is there");
    assert_eq!(find("idp_id", "").await, Vec::<String>::new(), "not declared");

    let subject_of = |id: &str, name: &str| {
        let id_token = pomerium_api::pb::session::IdToken {
            subject: name.into(),
            ..Default::default()
        };
        to_record(&Session {
            id: id.into(),
            id_token: Some(id_token),
            ..Session::default()
        })
    };
    subject.put(subject_of("s3", "somebody")).await;
    declare(&["user_id", "id_token.subject"]).await.unwrap();
    assert_eq!(
        find("id_token.subject", "somebody").await,
        ["s3"],
        "what was there before"
    );
    declare(&["id_token.subject"]).await.unwrap();
    assert_eq!(find("id_token.subject", "somebody").await, ["s3"]);
    // Where any field is found, declared or not, that stays so.
    let if_any = |id: &str| match subject.server.store().finds_any_field() {
        true => vec![id.to_owned()],
        false => Vec::new(),
    };
    assert_eq!(find("user_id", "u1").await, if_any("s2"));

    declare(&["no_such_field"]).await.unwrap();
    subject.put(session("s4", "u4")).await;
    subject.put(session("s4", "u5")).await;
    subject.put(deletion(Session::TYPE, "s4")).await;
    assert_eq!(find("no_such_field", "x").await, Vec::<String>::new());
    assert_eq!(find("id_token.subject", "somebody").await, if_any("s3"));
}

/// C.
pub(crate) async fn filters_go_across_types<S: Store>(subject: Subject<S>) {
    for (kind, count) in [(CATS, 4), ("example.com/bird", 3), (DOGS, 3)] {
        for i in 0..count {
            subject.put(record(kind, &i.to_string(), "x")).await;
        }
    }
    subject.put(network(CATS, "net", "192.168.0.0/16")).await;
    subject.put(network(DOGS, "net", "192.168.0.0/16")).await;
    let find = async |record_type: &str, filter: Filter| {
        let query = Query {
            filter,
            ..of(record_type, 0, 100)
        };
        let page = subject.broker.query(query).await.unwrap();
        let kind = |name: &str| name.rsplit('/').next().unwrap().to_owned();
        let keys = page
            .records
            .into_iter()
            .map(|record| format!("{} {}", kind(&record.r#type), record.id));
        keys.collect::<Vec<_>>()
    };
    let is = Filter::equals;
    let all = find("", Filter::default()).await;
    assert_eq!(all.len(), 12);
    assert!(all.is_sorted());
    assert_eq!(
        find("", is("type", DOGS)).await,
        ["dog 0", "dog 1", "dog 2", "dog net"]
    );
    assert_eq!(find("", is("id", "2")).await, ["bird 2", "cat 2", "dog 2"]);
    assert_eq!(
        find("", Filter::And(vec![is("type", CATS), is("id", "3")])).await,
        ["cat 3"]
    );
    assert_eq!(
        find("", is("$index", "192.168.0.1")).await,
        ["cat net", "dog net"]
    );
    assert_eq!(find(DOGS, is("$index", "192.168.0.1")).await, ["dog net"]);
    let named = Filter::Or(vec![is("id", "net"), is("id", "1")]);
    let both = Filter::And(vec![named, is("$index", "192.168.0.1")]);
    assert_eq!(find("", both).await, ["cat net", "dog net"]);
    let ten = Query {
        filter: Filter::Or(vec![is("id", "0"), is("id", "1"), is("id", "nobody")]),
        ..of(CATS, 0, 10)
    };
    assert_eq!(subject.broker.query(ten).await.unwrap().total, 2);
}

/// D.
pub(crate) async fn an_empty_database_has_a_name<S: Store>(subject: Subject<S>) {
    let (records, at) = all_latest(&*subject.broker, "").await;
    assert!(records.is_empty());
    assert_ne!(at.server_version, 0);
    assert_eq!(at.latest_record_version, 0);
    let rest = subject.broker.sync_until_now("", at).await.unwrap();
    assert_eq!(rest.count().await, 0);
}

/// G, and D again.
pub(crate) async fn a_thousand_changes_are_told_until_they_are_old<S: Store>(subject: Subject<S>) {
    let here = subject.broker.versions().await.unwrap();
    let records: Vec<_> = (0..1000).map(|i| record(CATS, &i.to_string(), "x")).collect();
    for part in records.chunks(100) {
        let reply = subject.broker.put(part.to_vec()).await.unwrap();
        assert_eq!(reply.server_version, here.server_version);
    }
    let all = subject.broker.sync_until_now("", here).await.unwrap();
    assert_eq!(all.count().await, 1000);
    subject.clock.advance(RETENTION + Duration::from_secs(1));
    subject.server.clean().await.unwrap();
    assert!(subject.resync(here).await);
}

/// What is read in one go is bounded in bytes: between the portions nothing is missed and nothing told twice.
pub(crate) async fn large_records_come_in_portions<S: Store>(subject: Subject<S>) {
    let here = subject.broker.versions().await.unwrap();
    let large = "x".repeat(3 * 1024 * 1024);
    let sizes = [&*large, "small", &large, &large, &large, "small", &large];
    for (i, text) in sizes.into_iter().enumerate() {
        subject.put(record(CATS, &i.to_string(), text)).await;
    }
    let (records, _) = all_latest(&*subject.broker, CATS).await;
    let stream = subject.broker.sync_until_now("", here).await.unwrap();
    let changes: Vec<_> = stream.map(Result::unwrap).collect().await;
    for told in [records, changes] {
        assert_eq!(told.len(), sizes.len());
        for (i, (record, text)) in told.iter().zip(sizes).enumerate() {
            assert_eq!((&*record.id, data(record).len()), (&*i.to_string(), text.len()));
        }
    }
}
