//! The conformance suite over gRPC on a real socket, and who is let in.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use pomerium_api::clock::{Clock, ManualClock};
use pomerium_api::databroker::remote::{Remote, Token, Transport};
use pomerium_api::databroker::{Databroker, Error, Query};
use pomerium_crypto::jwt::hs256_sign;
use pomerium_crypto::service_token;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Server};
use tower::ServiceExt;

use super::{Authenticated, records, writes};
use crate::MemoryStore;
use crate::conformance::{CATS, Subject, conformance, record};

pub(super) const SECRET: [u8; 32] = [9; 32];

/// Ends the server with the test.
pub(super) struct Running(pub(super) AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(broker: Arc<dyn Databroker>, clock: Arc<dyn Clock>) -> (Channel, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let authenticated = Authenticated::new(SECRET, clock);
    let server = Server::builder()
        .add_service(records(Arc::clone(&broker), authenticated.clone()))
        .add_service(writes(broker, authenticated));
    let task = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    (channel, Running(task.abort_handle()))
}

pub(super) fn client(channel: Channel, token: Token) -> Arc<dyn Databroker> {
    Arc::new(Remote::new(transport(channel), token, Duration::from_secs(10)))
}

pub(super) fn transport(channel: Channel) -> Transport {
    Transport::new(channel.map_err(|error| Status::from_error(Box::new(error))))
}

pub(super) fn own_token(clock: ManualClock) -> Token {
    Arc::new(move || service_token::sign(&SECRET, clock.now().as_second()))
}

async fn remote() -> (Subject<MemoryStore>, Running) {
    let mut subject = Subject::new(MemoryStore::new());
    let (channel, running) = serve(Arc::clone(&subject.broker), Arc::new(subject.clock.clone())).await;
    subject.broker = client(channel, own_token(subject.clock.clone()));
    (subject, running)
}

mod suite {
    use super::*;
    conformance!(subject: remote().await);
}

#[tokio::test]
async fn only_tokens_for_this_use_are_accepted() {
    let clock = ManualClock::new(Timestamp::from_second(1_000_000).unwrap());
    let server = crate::Server::start(MemoryStore::new(), Arc::new(clock.clone()));
    server.put(vec![record(CATS, "tom", "x")]).await.unwrap();
    let (channel, _running) = serve(server, Arc::new(clock.clone())).await;
    let exp = 1_000_100;
    let bad = [
        String::new(),
        "x".into(),
        service_token::sign(&[8; 32], 1_000_000),
        service_token::sign(&SECRET, 900_000),
        hs256_sign(&SECRET, &json!({"exp": exp, "jti": "sa1", "sub": "u1"})),
        hs256_sign(&SECRET, &json!({})),
        hs256_sign(
            &pomerium_crypto::kdf::derive(&SECRET, "another use"),
            &json!({"exp": exp}),
        ),
    ];
    for token in bad {
        let broker = client(channel.clone(), Arc::new(move || token.clone()));
        let refused = |result: Result<(), Error>| matches!(result, Err(Error::Refused(_)));
        assert!(refused(broker.get(CATS, "tom").await.map(drop)));
        assert!(refused(broker.put(vec![record(CATS, "x", "x")]).await.map(drop)));
        assert!(refused(broker.replace(record(CATS, "x", "x")).await.map(drop)));
        assert!(refused(broker.query(Query::default()).await.map(drop)));
        assert!(refused(broker.sync_latest("").await.map(drop)));
        assert!(refused(broker.clear().await.map(drop)));
    }
    let broker = client(channel, own_token(clock));
    let records: Vec<_> = broker.sync_latest("").await.unwrap().collect().await;
    assert_eq!(
        records.len(),
        2,
        "one record and the versions: nothing came of the others"
    );
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
