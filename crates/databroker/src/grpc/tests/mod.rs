//! The services over real sockets: the conformance suite through their client, who is let in, what is there.

mod access;
pub(crate) mod support;
mod tour;

use std::sync::Arc;

use pomerium_api::databroker::Databroker;

use self::support::{Running, channel, client, own_token, serve, services};
use crate::MemoryStore;
use crate::conformance::{CATS, Subject, conformance, record};

async fn remote() -> (Subject<MemoryStore>, Running) {
    let mut subject = Subject::new(MemoryStore::new());
    let clock = Arc::new(subject.clock.clone());
    let broker: Arc<dyn Databroker> = Arc::clone(&subject.broker);
    let (address, running) = serve(services(broker, clock)).await;
    subject.broker = client(channel(address), own_token(subject.clock.clone()));
    (subject, running)
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
