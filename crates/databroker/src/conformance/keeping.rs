//! Options, capacity, time to live, leases.

use super::*;
use crate::apply::MOST_EXPIRED;

pub(crate) async fn one_holds_a_lease<S: Store>(subject: Subject<S>) {
    let first = lease(&subject, None).await.expect("nobody holds it");
    assert_eq!(lease(&subject, None).await, None);
    assert_eq!(lease(&subject, Some("somebody")).await, None);
    subject.clock.advance(Duration::from_secs(20));
    assert_eq!(
        lease(&subject, Some(&first)).await.as_ref(),
        Some(&first),
        "renewed"
    );
    subject.clock.advance(Duration::from_secs(20));
    assert_eq!(lease(&subject, None).await, None, "the time began anew");
    subject
        .server
        .release_lease("job".into(), "somebody".into())
        .await
        .unwrap();
    assert_eq!(lease(&subject, None).await, None, "only the holder gives it back");
    subject
        .server
        .release_lease("job".into(), first.clone())
        .await
        .unwrap();
    let second = lease(&subject, None).await.expect("it was given back");
    assert_ne!(first, second);
    subject.clock.advance(Duration::from_secs(31));
    assert_eq!(
        lease(&subject, Some(&first)).await,
        Some(first.clone()),
        "its time is over"
    );
    assert_eq!(lease(&subject, Some(&second)).await, None);
}

/// Whether they are remembered or not.
pub(crate) async fn leases_that_ended_long_ago_are_free<S: Store>(subject: Subject<S>) {
    let request = |name: &str| LeaseRequest {
        name: name.into(),
        ttl: Duration::from_secs(30),
        id: None,
    };
    assert!(subject.broker.lease(request("old")).await.unwrap().is_some());
    subject.clock.advance(Duration::from_secs(2 * 3600));
    let held = subject.broker.lease(request("new")).await.unwrap();
    assert!(held.is_some());
    assert_eq!(subject.broker.lease(request("new")).await.unwrap(), None);
    assert!(subject.broker.lease(request("old")).await.unwrap().is_some());
    subject
        .broker
        .release_lease("new".into(), held.unwrap())
        .await
        .unwrap();
}

/// Longer than the calendar is.
pub(crate) async fn a_lease_may_last_for_ever<S: Store>(subject: Subject<S>) {
    for seconds in [251_800_000_000, 315_000_000_000] {
        let request = || LeaseRequest {
            name: format!("job of {seconds} s"),
            ttl: Duration::from_secs(seconds),
            id: None,
        };
        let held = subject.broker.lease(request()).await.unwrap();
        assert!(held.is_some(), "nobody holds it");
        assert_eq!(subject.broker.lease(request()).await.unwrap(), None, "{seconds}");
        subject.clock.advance(Duration::from_secs(3600));
        assert_eq!(subject.broker.lease(request()).await.unwrap(), None, "{seconds}");
    }
}

pub(crate) async fn options_are_kept_and_forgotten<S: Store>(subject: Subject<S>) {
    let ttl = prost_types::Duration {
        seconds: 60,
        nanos: 0,
    };
    let capacity = Options {
        capacity: Some(3),
        ..Options::default()
    };
    let fields = Options {
        indexable_fields: vec!["user_id".into()],
        ttl: Some(ttl),
        ..Options::default()
    };
    assert_eq!(subject.broker.options(CATS).await, Ok(None));
    for options in [&capacity, &fields, &capacity] {
        subject
            .server
            .set_options(CATS.into(), options.clone())
            .await
            .unwrap();
        assert_eq!(
            subject.broker.options(CATS).await.as_ref(),
            Ok(&Some(options.clone()))
        );
    }
    subject
        .broker
        .set_options(DOGS.into(), fields.clone())
        .await
        .unwrap();
    let all = subject.broker.all_options().await.unwrap();
    let wanted = BTreeMap::from([(CATS.to_owned(), capacity), (DOGS.to_owned(), fields)]);
    assert_eq!(all, wanted, "also of types without records");
    subject
        .server
        .set_options(CATS.into(), Options::default())
        .await
        .unwrap();
    assert_eq!(subject.broker.options(CATS).await, Ok(None));
    assert!(matches!(subject.broker.options("").await, Err(Error::Invalid(_))));
}

pub(crate) async fn the_oldest_make_room<S: Store>(subject: Subject<S>) {
    let options = Options {
        capacity: Some(3),
        ..Options::default()
    };
    subject.put(record(CATS, "a", "x")).await;
    subject.put(record(DOGS, "rex", "x")).await;
    subject.broker.set_options(CATS.into(), options).await.unwrap();
    for id in ["b", "c"] {
        subject.put(record(CATS, id, "x")).await;
    }
    subject.put(record(CATS, "a", "written again")).await;
    subject.put(record(CATS, "d", "x")).await;
    let ids = |records: Vec<Record>| records.into_iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(all_latest(&*subject.broker, CATS).await.0), ["a", "c", "d"]);
    assert_eq!(ids(all_latest(&*subject.broker, DOGS).await.0), ["rex"]);
    let gone: Vec<_> = subject
        .sync_from(CATS, 0)
        .await
        .take(6)
        .map(Result::unwrap)
        .filter(|change| future::ready(change.deleted_at.is_some()))
        .collect()
        .await;
    assert_eq!(ids(gone), ["b"], "whoever follows is told");
}

pub(crate) async fn records_expire<S: Store>(subject: Subject<S>) {
    let options = Options {
        ttl: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Options::default()
    };
    subject.broker.set_options(CATS.into(), options).await.unwrap();
    for id in ["a", "b"] {
        subject.put(record(CATS, id, "x")).await;
    }
    subject.put(record(DOGS, "rex", "x")).await;
    subject.clock.advance(Duration::from_secs(40));
    subject.put(record(CATS, "a", "written again")).await;
    subject.clock.advance(Duration::from_secs(30));
    let here = subject.broker.versions().await.unwrap();
    let mut following = subject.broker.sync(CATS, here).await.unwrap();
    subject.server.clean().await.unwrap();
    let change = following.next().await.unwrap().unwrap();
    assert_eq!((change.id.as_str(), change.deleted_at.is_some()), ("b", true));
    assert!(subject.broker.get(CATS, "a").await.is_ok());
    assert!(subject.broker.get(DOGS, "rex").await.is_ok());
}

/// More than one write lets expire, of two types.
pub(crate) async fn many_records_expire<S: Store>(subject: Subject<S>) {
    let options = Options {
        ttl: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Options::default()
    };
    let most = usize::try_from(MOST_EXPIRED).unwrap();
    for (record_type, count) in [(CATS, 7), (DOGS, most)] {
        let options = subject.broker.set_options(record_type.into(), options.clone());
        options.await.unwrap();
        let records: Vec<_> = (0..count)
            .map(|id| record(record_type, &id.to_string(), "x"))
            .collect();
        for batch in records.chunks(1000) {
            subject.broker.put(batch.to_vec()).await.unwrap();
        }
    }
    subject.clock.advance(Duration::from_secs(61));
    subject.put(record(CATS, "new", "x")).await;
    assert_eq!(subject.server.clean().await.unwrap(), most as u64 + 7);
    assert_eq!(subject.broker.types().await.unwrap(), [CATS]);
    assert!(subject.broker.get(CATS, "new").await.is_ok());
    assert_eq!(subject.server.clean().await.unwrap(), 0);
}

/// More than one write drives out, where a type is to keep less than it has.
pub(crate) async fn a_capacity_set_late_is_reached_in_portions<S: Store>(subject: Subject<S>) {
    let most = usize::try_from(MOST_EXPIRED).unwrap();
    let count = 2 * most + most / 2;
    let records: Vec<_> = (0..count)
        .map(|id| record(CATS, &format!("{id:05}"), "x"))
        .collect();
    for batch in records.chunks(1000) {
        subject.broker.put(batch.to_vec()).await.unwrap();
    }
    let options = Options {
        capacity: Some(10),
        ..Options::default()
    };
    subject.broker.set_options(CATS.into(), options).await.unwrap();
    subject
        .broker
        .put(vec![record(CATS, "00003", "again"), record(CATS, "new", "x")])
        .await
        .unwrap();
    let (left, _) = all_latest(&*subject.broker, CATS).await;
    assert_eq!(
        left.len(),
        count - most - 1,
        "a write drives out so many and what it wrote"
    );
    assert_eq!(subject.server.clean().await.unwrap(), (count - most - 11) as u64);
    let (left, _) = all_latest(&*subject.broker, CATS).await;
    let ids: Vec<_> = left.iter().map(|record| record.id.as_str()).collect();
    let youngest = (count - 8..count).map(|id| format!("{id:05}"));
    let wanted = ["00003".to_owned()].into_iter().chain(youngest);
    assert_eq!(ids, wanted.chain(["new".to_owned()]).collect::<Vec<_>>());
}

pub(crate) async fn types_are_those_with_records<S: Store>(subject: Subject<S>) {
    assert_eq!(subject.broker.types().await.unwrap(), Vec::<String>::new());
    subject.put(record(DOGS, "rex", "x")).await;
    subject.put(record(CATS, "tom", "x")).await;
    subject.put(record(CATS, "kit", "x")).await;
    assert_eq!(subject.broker.types().await.unwrap(), [CATS, DOGS]);
    subject.put(deletion(DOGS, "rex")).await;
    assert_eq!(subject.broker.types().await.unwrap(), [CATS]);
}
