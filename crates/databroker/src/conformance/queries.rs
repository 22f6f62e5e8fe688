//! Filters, texts, pages.

use super::*;

pub(crate) async fn list_pages_literally<S: Store>(subject: Subject<S>) {
    for id in ["c", "a", "d", "b"] {
        subject.put(record(CATS, id, "x")).await;
    }
    subject.put(record(DOGS, "a", "x")).await;
    let ids = async |offset, limit| {
        let page = subject.broker.query(of(CATS, offset, limit)).await.unwrap();
        assert_eq!(page.total, 4);
        assert_eq!(page.versions.latest_record_version, 5);
        page.records
            .into_iter()
            .map(|record| record.id)
            .collect::<String>()
    };
    assert_eq!(ids(0, 10).await, "abcd");
    assert_eq!(ids(1, 2).await, "bc");
    assert_eq!(ids(0, 0).await, "");
    assert_eq!(ids(9, 10).await, "");
    assert_eq!(ids(3, u64::MAX).await, "d");
}

/// A record that stands for a network.
pub(crate) fn network(record_type: &str, id: &str, cidr: &str) -> Record {
    let text = |text: &str| prost_types::Value {
        kind: Some(Kind::StringValue(text.into())),
    };
    let index = Struct {
        fields: [("cidr".to_owned(), text(cidr))].into(),
    };
    let index = prost_types::Value {
        kind: Some(Kind::StructValue(index)),
    };
    let data = Struct {
        fields: [("$index".to_owned(), index), ("id".to_owned(), text(id))].into(),
    };
    Record {
        data: Some(Any {
            type_url: "type.googleapis.com/google.protobuf.Struct".into(),
            value: data.encode_to_vec(),
        }),
        ..record(record_type, id, "")
    }
}

async fn found<S: Store>(subject: &Subject<S>, record_type: &str, filter: Filter) -> Vec<String> {
    let query = Query {
        filter,
        ..of(record_type, 0, 100)
    };
    let page = subject.broker.query(query).await.unwrap();
    assert_eq!(page.total, page.records.len() as u64);
    page.records.into_iter().map(|record| record.id).collect()
}

pub(crate) async fn filters_find_what_they_name<S: Store>(subject: Subject<S>) {
    for id in ["a", "b", "c"] {
        subject.put(record(CATS, id, "x")).await;
    }
    subject.put(network(DOGS, "a", "192.168.0.0/16")).await;
    subject.put(network(DOGS, "near", "192.168.1.0/24")).await;
    let is = Filter::equals;
    assert_eq!(found(&subject, CATS, Filter::default()).await, ["a", "b", "c"]);
    assert_eq!(found(&subject, CATS, is("id", "b")).await, ["b"]);
    assert_eq!(found(&subject, "", is("id", "a")).await, ["a", "a"]);
    assert_eq!(found(&subject, DOGS, is("$index", "192.168.2.9")).await, ["a"]);
    assert_eq!(
        found(&subject, DOGS, is("$index", "192.168.1.9")).await,
        ["near"],
        "the most specific"
    );
    assert_eq!(
        found(&subject, DOGS, is("$index", "::ffff:192.168.2.9")).await,
        ["a"]
    );
    for nothing in ["192.0.2.1", "", "x"] {
        assert!(found(&subject, DOGS, is("$index", nothing)).await.is_empty());
    }
    let either = Filter::Or(vec![is("id", "a"), is("$index", "192.168.1.9")]);
    assert_eq!(found(&subject, DOGS, either.clone()).await, ["a", "near"]);
    let both = Filter::And(vec![either, is("$index", "192.168.1.9")]);
    assert_eq!(found(&subject, DOGS, both).await, ["near"]);
    assert_eq!(
        found(&subject, CATS, Filter::Or(vec![is("id", "a"), is("id", "c")])).await,
        ["a", "c"]
    );
}

/// Of each address that is asked for, the most specific network.
pub(crate) async fn each_address_finds_its_network<S: Store>(subject: Subject<S>) {
    for (id, cidr) in [
        ("all", "0.0.0.0/0"),
        ("one92", "192.168.0.0/16"),
        ("ten", "10.0.0.0/8"),
        ("v6", "2001:db8::/32"),
        ("wide", "192.0.0.0/8"),
    ] {
        subject.put(network(DOGS, id, cidr)).await;
    }
    let near = |address: &str| Filter::equals("$index", address);
    let any = |all: &[&str]| Filter::Or(all.iter().map(|address| near(address)).collect());
    for (asked, wanted) in [
        (any(&["10.1.1.1", "192.168.1.1"]), &["one92", "ten"][..]),
        (any(&["10.1.1.1", "2001:db8::1"]), &["ten", "v6"]),
        (any(&["192.168.1.1", "192.0.2.1"]), &["one92", "wide"]),
        (any(&["10.1.1.1", "10.2.2.2", "nonsense"]), &["ten"]),
        (
            Filter::Or(vec![
                Filter::And(vec![near("192.168.1.1"), Filter::equals("id", "wide")]),
                near("2001:db8::1"),
            ]),
            &["v6", "wide"],
        ),
    ] {
        for record_type in [DOGS, ""] {
            assert_eq!(
                found(&subject, record_type, asked.clone()).await,
                wanted,
                "{asked:?}"
            );
        }
    }
}

pub(crate) async fn declared_fields_can_be_filtered<S: Store>(subject: Subject<S>) {
    let declare = |fields: &[&str]| {
        let options = Options {
            indexable_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            ..Options::default()
        };
        subject.broker.set_options(Session::TYPE.into(), options)
    };
    let by_user = |user: &str| found(&subject, Session::TYPE, Filter::equals("user_id", user));
    for (id, user) in [("s1", "u1"), ("s2", "u1"), ("s3", "u2")] {
        subject.put(session(id, user)).await;
    }
    declare(&["user_id"]).await.unwrap();
    assert_eq!(by_user("u1").await, ["s1", "s2"]);
    subject.put(session("s2", "u2")).await;
    assert_eq!(by_user("u1").await, ["s1"]);
    assert_eq!(by_user("u2").await, ["s2", "s3"]);
    subject.put(deletion(Session::TYPE, "s3")).await;
    assert_eq!(by_user("u2").await, ["s2"]);
    declare(&["user_id", "id_token.subject"]).await.unwrap();
    assert_eq!(by_user("u2").await, ["s2"]);
    assert!(
        found(&subject, Session::TYPE, Filter::equals("nope", "x"))
            .await
            .is_empty()
    );
}

/// A name that is none, and a value that is no text, are a matter of their own field.
pub(crate) async fn declared_fields_do_not_depend_on_each_other<S: Store>(subject: Subject<S>) {
    let fields = ["nope", "idp_id", "user_id", "issued_at", "id_token.subject"];
    let options = Options {
        indexable_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        ..Options::default()
    };
    let set = subject.broker.set_options(Session::TYPE.into(), options);
    set.await.unwrap();
    subject.put(session("s1", "u1")).await;
    let issued = Session {
        id: "s2".into(),
        user_id: "u1".into(),
        issued_at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..Session::default()
    };
    subject.put(to_record(&issued)).await;
    let find = |field: &str, value: &str| found(&subject, Session::TYPE, Filter::equals(field, value));
    assert_eq!(find("user_id", "u1").await, ["s1", "s2"]);
    for unset in ["nope", "idp_id", "id_token.subject"] {
        assert_eq!(find(unset, "").await, ["s1", "s2"], "{unset}");
        assert!(find(unset, "x").await.is_empty(), "{unset}");
    }
    assert_eq!(find("issued_at", "").await, ["s1"], "a time is no text");
}

/// What is inside a map goes by its key.
pub(crate) async fn declared_fields_lead_into_maps<S: Store>(subject: Subject<S>) {
    let options = Options {
        indexable_fields: vec!["details.team".into()],
        ..Options::default()
    };
    subject.broker.set_options(CATS.into(), options).await.unwrap();
    for (id, team) in [("tom", "blue"), ("kit", "red")] {
        let details = serde_json::json!({"details": {"team": team}});
        let data = Any {
            type_url: "type.googleapis.com/google.protobuf.Struct".into(),
            value: pomerium_api::json::to_struct(&details).encode_to_vec(),
        };
        let told = Record {
            data: Some(data),
            ..record(CATS, id, "")
        };
        subject.put(told).await;
    }
    let blue = found(&subject, CATS, Filter::equals("details.team", "blue")).await;
    assert_eq!(blue, ["tom"]);
}

pub(crate) async fn texts_can_be_looked_for<S: Store>(subject: Subject<S>) {
    subject.put(session("s1", "Operator@Example.com")).await;
    subject.put(session("s2", "somebody")).await;
    let query = Query {
        text: "EXAMPLE".into(),
        ..of("", 0, 0)
    };
    let page = subject.broker.query(query.clone()).await.unwrap();
    assert_eq!(
        (page.total, page.records.len()),
        (1, 0),
        "a limit of none is meant"
    );
    let query = Query { limit: 5, ..query };
    assert_eq!(subject.broker.query(query).await.unwrap().records[0].id, "s1");
}
