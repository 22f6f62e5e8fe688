//! The services over real sockets: the conformance suite through their client, who is let in, what is there.

mod access;
pub(crate) mod support;
mod tour;

use std::sync::Arc;

use pomerium_api::databroker::{Databroker, Error, Page, Query};
use pomerium_api::pb::databroker as pb;
use pomerium_api::pb::databroker::data_broker_service_client::DataBrokerServiceClient;
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage as _, from_record, to_record};
use prost::Message;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use self::support::{Running, channel, client, own_token, serve, services};
use crate::conformance::{CATS, Subject, conformance, deletion, record};
use crate::{MemoryStore, RETENTION};

async fn remote() -> (Subject<MemoryStore>, Running) {
    let (subject, running, _) = serving().await;
    (subject, running)
}

/// With the way to it.
async fn serving() -> (Subject<MemoryStore>, Running, Channel) {
    let mut subject = Subject::new(MemoryStore::new());
    let clock = Arc::new(subject.clock.clone());
    let broker: Arc<dyn Databroker> = Arc::clone(&subject.broker);
    let (address, running) = serve(services(broker, clock)).await;
    subject.broker = client(channel(address), own_token(subject.clock.clone()));
    (subject, running, channel(address))
}

mod suite {
    use super::*;
    conformance!(subject: remote().await);
}

#[tokio::test]
async fn more_than_one_message_carries_goes_in_parts() {
    let (subject, _running) = remote().await;
    let large = "x".repeat(700 * 1024);
    let records = (0..8)
        .map(|i: u32| record(CATS, &i.to_string(), &large))
        .collect();
    let reply = subject.broker.put(records).await.unwrap();
    assert_eq!(reply.records.len(), 8);
    assert_eq!(subject.broker.types().await.unwrap(), [CATS]);
}

/// Together they are larger than a message that is read, and so is the answer to a patch of all of them.
#[tokio::test]
async fn lists_and_patches_of_any_size_come_back_whole() {
    let (subject, _running) = remote().await;
    let large = |id: usize| {
        to_record(&Session {
            id: format!("s{id}"),
            user_id: "x".repeat(3 * 1024 * 1024),
            ..Session::default()
        })
    };
    for id in 0..6 {
        subject.broker.put(vec![large(id)]).await.unwrap();
    }
    let all = || Query::page(Session::TYPE, 0, u64::MAX);
    let page = subject.broker.query(all()).await.unwrap();
    let ids = |page: &Page| {
        page.records
            .iter()
            .map(|record| record.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&page), ["s0", "s1", "s2", "s3", "s4", "s5"]);
    assert_eq!(page.total, 6);
    let page = subject
        .broker
        .query(Query::page(Session::TYPE, 1, 4))
        .await
        .unwrap();
    assert_eq!((ids(&page).join(" "), page.total), ("s1 s2 s3 s4".into(), 6));

    let small = (0..7).map(|id| {
        to_record(&Session {
            id: format!("s{id}"),
            idp_id: "changed".into(),
            ..Session::default()
        })
    });
    let patched = subject
        .broker
        .patch(small.collect(), vec!["idp_id".into()])
        .await
        .unwrap();
    assert_eq!(patched.records.len(), 6, "the last is not there");
    assert!(patched.server_version != 0);
    for record in &patched.records {
        assert_eq!(from_record::<Session>(record).unwrap().idp_id, "changed");
    }
}

/// A client as anybody makes it.
fn plain(
    channel: Channel,
    subject: &Subject<MemoryStore>,
) -> DataBrokerServiceClient<InterceptedService<Channel, impl Interceptor>> {
    let token = own_token(subject.clock.clone());
    DataBrokerServiceClient::with_interceptor(channel, move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("jwt", token().parse().unwrap());
        Ok(request)
    })
}

#[tokio::test]
async fn a_position_that_is_not_held_is_refused_in_known_words() {
    let (subject, _running, channel) = serving().await;
    for id in ["tom", "kit"] {
        subject.broker.put(vec![record(CATS, id, "x")]).await.unwrap();
        subject.clock.advance(RETENTION * 2);
    }
    subject.server.trim().await.unwrap();
    let here = subject.broker.versions().await.unwrap().server_version;
    let mut plain = plain(channel, &subject);
    for (server_version, words) in [
        (here, "invalid record version"),
        (here ^ 1, "invalid server version"),
    ] {
        let request = pb::SyncRequest {
            server_version,
            ..pb::SyncRequest::default()
        };
        let status = plain.sync(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Aborted);
        assert!(status.message().starts_with(words), "{status}");
    }
}

/// Clients take 4 MiB unless they are told otherwise, and a record comes back with more than it went with.
#[tokio::test]
async fn the_largest_record_comes_back_in_one_message() {
    let (subject, _running, channel) = serving().await;
    let of_size = |size: usize| {
        let plain = record(CATS, "tom", "").encoded_len();
        let record = record(CATS, "tom", &"x".repeat(size - plain - 8));
        assert!(size - record.encoded_len() < 8);
        record
    };
    let largest = of_size(4092 * 1024);
    let too_large = of_size(4092 * 1024 + 16);
    assert!(matches!(
        subject.broker.put(vec![too_large]).await,
        Err(Error::Invalid(_))
    ));
    let stored = subject.broker.put(vec![largest]).await.unwrap().records.remove(0);

    let mut plain = plain(channel, &subject);
    let request = pb::GetRequest {
        r#type: CATS.into(),
        id: "tom".into(),
    };
    let got = plain.get(request).await.unwrap().into_inner().record;
    assert_eq!(got.as_ref(), Some(&stored));
    let server_version = subject.broker.versions().await.unwrap().server_version;
    let request = pb::SyncRequest {
        server_version,
        ..pb::SyncRequest::default()
    };
    let mut changes = plain.sync(request).await.unwrap().into_inner();
    let change = changes.message().await.unwrap().unwrap().response;
    assert_eq!(change, Some(pb::sync_response::Response::Record(stored.clone())));
    let tombstone = subject
        .broker
        .put(vec![deletion(CATS, "tom")])
        .await
        .unwrap()
        .records
        .remove(0);
    let change = changes.message().await.unwrap().unwrap().response;
    assert_eq!(change, Some(pb::sync_response::Response::Record(tombstone)));
}
