//! When sessions and service accounts were used last (`accessed_at`; spec policy.md 16): noted by the workers, written to
//! the databroker in batches. Nobody waits for it, and caches of records do not take it for a change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pomerium_api::databroker::{Databroker, Error, Record};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::ServiceAccount;
use pomerium_api::records::{to_proto_time, to_record};
use pomerium_authorize::Principal;
use pomerium_proxy::AccessTracker;
use prometheus::{IntCounter, Registry};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often a batch is written, and how often the same session is noted.
const EVERY: Duration = Duration::from_secs(10);
/// Most that wait for the batch, and most in one batch; what is beyond is left out and counted.
const MOST: usize = 1000;
/// Longest wait for the databroker.
const PATIENCE: Duration = Duration::from_secs(3);

/// One use.
#[derive(Debug)]
struct Use {
    id: String,
    service_account: bool,
    at: Timestamp,
}

/// Takes notes of the workers.
pub(super) struct Access {
    sender: mpsc::Sender<Use>,
    dropped: IntCounter,
}

impl Access {
    /// Starts to write down what it is told, until `stop`; the task ends when the last batch is written.
    pub(super) fn start(
        broker: Arc<dyn Databroker>,
        registry: &Registry,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, JoinHandle<()>), prometheus::Error> {
        let dropped = IntCounter::new(
            "pomerium_access_updates_dropped_total",
            "Uses of sessions that were not written down for want of room.",
        )?;
        registry.register(Box::new(dropped.clone()))?;
        let (sender, receiver) = mpsc::channel(MOST);
        let batch = Batch {
            broker,
            uses: HashMap::new(),
            dropped: dropped.clone(),
        };
        let task = tokio::spawn(batch.run(receiver, stop));
        Ok((Arc::new(Self { sender, dropped }), task))
    }
}

impl AccessTracker for Access {
    fn seen(&self, principal: &Principal, now: Timestamp) {
        if !principal.is_news(now, EVERY) {
            return;
        }
        let seen = Use {
            id: principal.session_id.clone(),
            service_account: principal.service_account,
            at: now,
        };
        if self.sender.try_send(seen).is_err() {
            self.dropped.inc();
        }
    }
}

/// What is to be written.
struct Batch {
    broker: Arc<dyn Databroker>,
    /// By sort (whether it is a service account) and id.
    uses: HashMap<(bool, String), Timestamp>,
    dropped: IntCounter,
}

impl Batch {
    async fn run(mut self, mut receiver: mpsc::Receiver<Use>, stop: CancellationToken) {
        let mut beat = tokio::time::interval(EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        loop {
            tokio::select! {
                seen = receiver.recv() => match seen {
                    Some(seen) => self.add(seen),
                    None => break,
                },
                _ = beat.tick() => self.write().await,
                () = stop.cancelled() => break,
            }
        }
        while let Ok(seen) = receiver.try_recv() {
            self.add(seen);
        }
        self.write().await;
    }

    fn add(&mut self, seen: Use) {
        let key = (seen.service_account, seen.id);
        if self.uses.len() >= MOST && !self.uses.contains_key(&key) {
            self.dropped.inc();
            return;
        }
        let at = self.uses.entry(key).or_insert(seen.at);
        *at = seen.at.max(*at);
    }

    /// Writes what there is. Without an answer it is kept for the next time; records that are gone are left out.
    async fn write(&mut self) {
        for service_account in [false, true] {
            let of_sort = self.uses.iter().filter(|((sort, _), _)| *sort == service_account);
            let records: Vec<Record> = of_sort
                .map(|((_, id), at)| used(service_account, id, *at))
                .collect();
            if records.is_empty() {
                continue;
            }
            match self.patch(records).await {
                Ok(()) => self.uses.retain(|(sort, _), _| *sort != service_account),
                Err(error) => {
                    tracing::warn!(%error, "the last uses of sessions could not be written down; they are kept");
                    return;
                }
            }
        }
    }

    async fn patch(&self, records: Vec<Record>) -> Result<(), Error> {
        let patched = self.broker.patch(records, vec!["accessed_at".into()]);
        match tokio::time::timeout(PATIENCE, patched).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Error::Unavailable("no answer in time".into())),
        }
    }
}

/// A record in which nothing but the moment counts.
fn used(service_account: bool, id: &str, at: Timestamp) -> Record {
    let (id, accessed_at) = (id.to_owned(), Some(to_proto_time(at)));
    if service_account {
        to_record(&ServiceAccount {
            id,
            accessed_at,
            ..ServiceAccount::default()
        })
    } else {
        to_record(&Session {
            id,
            accessed_at,
            ..Session::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use pomerium_api::clock::SystemClock;
    use pomerium_api::records::{RecordMessage, from_record};
    use pomerium_databroker::{MemoryStore, Server};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + seconds).unwrap()
    }

    fn seen(id: &str, service_account: bool, seconds: i64) -> Use {
        Use {
            id: id.into(),
            service_account,
            at: at(seconds),
        }
    }

    async fn read<M: RecordMessage>(broker: &Arc<dyn Databroker>, id: &str) -> M {
        from_record(&broker.get(M::TYPE, id).await.unwrap()).unwrap()
    }

    async fn broker() -> Arc<dyn Databroker> {
        let broker: Arc<dyn Databroker> = Arc::new(Server::new(MemoryStore::new(), Arc::new(SystemClock)));
        let session = Session {
            id: "s1".into(),
            user_id: "u1".into(),
            ..Session::default()
        };
        let account = ServiceAccount {
            id: "a1".into(),
            user_id: "u1".into(),
            ..ServiceAccount::default()
        };
        broker
            .put(vec![to_record(&session), to_record(&account)])
            .await
            .unwrap();
        broker
    }

    fn batch(broker: &Arc<dyn Databroker>) -> Batch {
        Batch {
            broker: Arc::clone(broker),
            uses: HashMap::new(),
            dropped: IntCounter::new("dropped", "dropped").unwrap(),
        }
    }

    #[tokio::test]
    async fn only_the_moment_is_written_and_records_that_are_gone_stay_gone() {
        let broker = broker().await;
        let mut batch = batch(&broker);
        for one in [
            seen("s1", false, 5),
            seen("s1", false, 3),
            seen("gone", false, 4),
            seen("a1", true, 6),
            seen("s1", true, 9),
        ] {
            batch.add(one);
        }
        batch.write().await;
        assert!(batch.uses.is_empty());
        let session: Session = read(&broker, "s1").await;
        assert_eq!(session.accessed_at, Some(to_proto_time(at(5))));
        assert_eq!(session.user_id, "u1");
        let account: ServiceAccount = read(&broker, "a1").await;
        assert_eq!(account.accessed_at, Some(to_proto_time(at(6))));
        assert!(broker.get(Session::TYPE, "gone").await.is_err());
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted() {
        let broker = broker().await;
        let mut batch = batch(&broker);
        for number in 0..MOST + 7 {
            batch.add(seen(&number.to_string(), false, 0));
        }
        batch.add(seen("0", false, 8));
        assert_eq!((batch.uses.len(), batch.dropped.get()), (MOST, 7));
        assert_eq!(batch.uses[&(false, "0".to_owned())], at(8));
    }

    #[tokio::test]
    async fn the_last_batch_is_written_at_the_end() {
        let broker = broker().await;
        let stop = CancellationToken::new();
        let (access, task) = Access::start(Arc::clone(&broker), &Registry::new(), stop.clone()).unwrap();
        access.sender.try_send(seen("s1", false, 1)).unwrap();
        stop.cancel();
        task.await.unwrap();
        let session: Session = read(&broker, "s1").await;
        assert_eq!(session.accessed_at, Some(to_proto_time(at(1))));
    }
}
