//! Which services run where.

use super::*;

/// Spec databroker.md 18 E: a clear leaves leases and services.
pub(crate) async fn services_outlive_a_clear<S: Store>(subject: Subject<S>) {
    let broker = &subject.broker;
    let held = lease(&subject, None).await.unwrap();
    let proxy = vec![service(4, "https://proxy.example.com")];
    broker.report(proxy.clone()).await.unwrap();
    let versions = broker.versions().await.unwrap();
    assert_eq!(versions.latest_record_version, 0, "it is no record");
    broker.clear().await.unwrap();
    assert_eq!(lease(&subject, Some(&held)).await.as_ref(), Some(&held));
    assert_eq!(broker.services(vec![]).await.unwrap(), proxy);
}

fn service(kind: i32, endpoint: &str) -> Service {
    Service {
        kind,
        endpoint: endpoint.into(),
    }
}

pub(crate) async fn services_are_known_while_they_report<S: Store>(subject: Subject<S>) {
    let broker = &subject.broker;
    assert_eq!(broker.services(vec![]).await.unwrap(), vec![]);
    let proxy = service(4, "https://b.example.com");
    let other = service(4, "https://a.example.com");
    let console = service(6, "https://b.example.com");
    let all = vec![console.clone(), proxy.clone(), other.clone(), proxy.clone()];
    let again = broker.report(all).await.unwrap();
    assert_eq!(again, Duration::from_secs(15));
    let sorted = vec![other, proxy.clone(), console.clone()];
    assert_eq!(broker.services(vec![]).await.unwrap(), sorted);
    assert_eq!(broker.services(vec![6, 3]).await.unwrap(), vec![console]);
    subject.clock.advance(Duration::from_secs(20));
    broker.report(vec![proxy.clone()]).await.unwrap();
    subject.clock.advance(Duration::from_secs(20));
    assert_eq!(broker.services(vec![]).await.unwrap(), vec![proxy]);
    subject.clock.advance(Duration::from_secs(20));
    assert_eq!(broker.services(vec![]).await.unwrap(), vec![]);
    subject.server.clean().await.unwrap();
    broker.report(vec![]).await.unwrap();
    assert_eq!(broker.services(vec![]).await.unwrap(), vec![]);
}

/// Spec databroker.md 18 F.
pub(crate) async fn watchers_are_told_of_services<S: Store>(subject: Subject<S>) {
    let mut watched = subject.broker.watch_services(vec![3, 6]).await.unwrap();
    assert_eq!(watched.next().await.unwrap().unwrap(), vec![]);
    let (authenticate, console) = (
        service(3, "https://a.example.com"),
        service(6, "https://b.example.com"),
    );
    let all = vec![
        authenticate.clone(),
        service(4, "https://c.example.com"),
        console.clone(),
    ];
    let again = subject.broker.report(all.clone()).await.unwrap();
    assert!(!again.is_zero());
    assert_eq!(
        watched.next().await.unwrap().unwrap(),
        vec![authenticate, console]
    );
    // The same again is no news; a new one is.
    subject.broker.report(all).await.unwrap();
    subject
        .broker
        .report(vec![service(3, "https://d.example.com")])
        .await
        .unwrap();
    assert_eq!(watched.next().await.unwrap().unwrap().len(), 3);
    // What falls silent is forgotten with the next word, and without one when its time is over.
    subject.clock.advance(Duration::from_secs(60));
    subject
        .broker
        .report(vec![service(6, "https://e.example.com")])
        .await
        .unwrap();
    assert_eq!(
        watched.next().await.unwrap().unwrap(),
        vec![service(6, "https://e.example.com")]
    );
}
