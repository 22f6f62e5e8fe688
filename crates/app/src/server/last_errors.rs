//! What went wrong last when sessions and users were kept up to date: when, as metrics; and what, as records
//! `pomerium.events.LastError`, for tools that look into the databroker (spec authentication.md 10, databroker.md 15).
//!
//! A refresh waits for neither. There is one place for each sort of failure, and a newer one takes the place of one that is
//! not written yet: a provider that is down is no flood of records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Databroker, Error};
use pomerium_api::pb::pomerium::events::LastError;
use pomerium_api::records::{to_proto_time, to_record};
use pomerium_identity::IdentityError;
use pomerium_identity::refresh::{Matter, RefreshObserver};
use prometheus::{IntGauge, Registry};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The pause between two writes.
const EVERY: Duration = Duration::from_secs(10);
/// Longest wait for the databroker.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest message, in characters.
const LONGEST: usize = 500;

/// Takes note of how refreshes go.
pub(super) struct LastErrors {
    session: Sort,
    user: Sort,
    clock: Arc<dyn Clock>,
    /// What is not written yet, by id.
    waiting: Mutex<BTreeMap<&'static str, LastError>>,
    more: Notify,
}

/// One sort of failure.
struct Sort {
    /// The id of its record.
    id: &'static str,
    success: IntGauge,
    error: IntGauge,
}

impl Sort {
    fn register(registry: &Registry, matter: Matter) -> Result<Self, prometheus::Error> {
        let (what, asked, id) = match matter {
            Matter::Session => (
                "session",
                "new tokens for a session",
                "identity_manager_last_session_refresh_error",
            ),
            Matter::User => (
                "user",
                "word of who a user is",
                "identity_manager_last_user_refresh_error",
            ),
        };
        let gauge = |end: &str, when: &str| -> Result<IntGauge, prometheus::Error> {
            let name = format!("pomerium_identity_manager_last_{what}_refresh_{end}_timestamp");
            let help = format!("When the identity provider last {when} {asked}, Unix seconds; 0 if never.");
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            id,
            success: gauge("success", "gave")?,
            error: gauge("error", "failed to give")?,
        })
    }
}

impl LastErrors {
    /// Creates them and registers their metrics. Nothing is written before [`Self::write_down`] is polled.
    ///
    /// Errors when the registry has such metrics already.
    pub(super) fn register(
        registry: &Registry,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, prometheus::Error> {
        Ok(Arc::new(Self {
            session: Sort::register(registry, Matter::Session)?,
            user: Sort::register(registry, Matter::User)?,
            clock,
            waiting: Mutex::default(),
            more: Notify::new(),
        }))
    }

    /// Writes failures to `broker` until `stop`: the first at once, later ones with pauses between them.
    pub(super) async fn write_down(self: Arc<Self>, broker: Arc<dyn Databroker>, stop: CancellationToken) {
        let writing = async {
            loop {
                self.more.notified().await;
                self.write(&*broker).await;
                tokio::time::sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(writing).await;
    }

    /// Writes what there is. What cannot be written is given up: it is in the log, and the next one may be.
    async fn write(&self, broker: &dyn Databroker) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let records = waiting.values().map(to_record).collect();
        let written = match tokio::time::timeout(PATIENCE, broker.put(records)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Error::Unavailable("no answer in time".into())),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the last failures of session refresh could not be written down");
        }
    }

    fn sort(&self, matter: Matter) -> &Sort {
        match matter {
            Matter::Session => &self.session,
            Matter::User => &self.user,
        }
    }
}

impl RefreshObserver for LastErrors {
    fn succeeded(&self, matter: Matter) {
        self.sort(matter).success.set(self.clock.now().as_second());
    }

    fn failed(&self, matter: Matter, error: &IdentityError) {
        let (sort, now) = (self.sort(matter), self.clock.now());
        sort.error.set(now.as_second());
        let event = LastError {
            time: Some(to_proto_time(now)),
            message: error.summary().chars().take(LONGEST).collect(),
            id: sort.id.to_owned(),
        };
        self.waiting.lock().insert(sort.id, event);
        self.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use jiff::Timestamp;
    use pomerium_api::clock::ManualClock;
    use pomerium_api::databroker::{Record, RecordStream};
    use pomerium_api::records::{RecordMessage, from_record};
    use pomerium_databroker::{MemoryStore, Server};
    use prometheus::TextEncoder;
    use tokio::task::JoinHandle;

    use super::*;

    struct Stage {
        clock: ManualClock,
        registry: Registry,
        errors: Arc<LastErrors>,
        written: RecordStream<Record>,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    fn answered(status: u16) -> IdentityError {
        let url = "https://idp.example.com/token".into();
        IdentityError::OutOfOrder { url, status }
    }

    impl Stage {
        async fn start() -> Self {
            let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
            let broker = Arc::new(Server::new(MemoryStore::new(), Arc::new(clock.clone())));
            let (registry, stop) = (Registry::new(), CancellationToken::new());
            let errors = LastErrors::register(&registry, Arc::new(clock.clone())).unwrap();
            let at = broker.versions().await.unwrap();
            let written = broker.sync(LastError::TYPE, at).await.unwrap();
            let task = tokio::spawn(Arc::clone(&errors).write_down(broker, stop.clone()));
            Self {
                clock,
                registry,
                errors,
                written,
                stop,
                task,
            }
        }

        async fn next(&mut self) -> LastError {
            from_record(&self.written.next().await.unwrap().unwrap()).unwrap()
        }

        fn value(&self, name: &str) -> i64 {
            let text = TextEncoder::new()
                .encode_to_string(&self.registry.gather())
                .unwrap();
            let name = format!("pomerium_identity_manager_last_{name}_timestamp ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            value.unwrap().parse().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_are_few_records_of_which_the_last_counts() {
        let mut stage = Stage::start().await;
        stage.errors.failed(Matter::Session, &answered(500));
        let first = stage.next().await;
        assert_eq!(first.id, "identity_manager_last_session_refresh_error");
        assert_eq!(first.message, answered(500).summary());
        assert_eq!(first.time.unwrap().seconds, 1_800_000_000);
        for status in 501..=599 {
            stage.errors.failed(Matter::Session, &answered(status));
            stage.errors.failed(Matter::User, &answered(status));
        }
        let both = [stage.next().await, stage.next().await];
        let ids = both.each_ref().map(|event| event.id.as_str());
        assert_eq!(
            ids,
            [first.id.as_str(), "identity_manager_last_user_refresh_error"]
        );
        for event in both {
            assert_eq!(event.message, answered(599).summary());
        }
        stage.errors.failed(Matter::User, &answered(408));
        let last = stage.next().await;
        assert_eq!(last.message, answered(408).summary(), "nothing in between");
        stage.stop.cancel();
        stage.task.await.unwrap();
    }

    #[tokio::test]
    async fn when_it_went_well_and_when_not_is_measured() {
        let stage = Stage::start().await;
        let values = || {
            [
                "session_refresh_success",
                "session_refresh_error",
                "user_refresh_success",
                "user_refresh_error",
            ]
            .map(|name| stage.value(name))
        };
        assert_eq!(values(), [0; 4]);
        stage.errors.succeeded(Matter::Session);
        stage.clock.advance(Duration::from_secs(5));
        stage.errors.failed(Matter::User, &answered(500));
        assert_eq!(values(), [1_800_000_000, 0, 0, 1_800_000_005]);
    }

    #[tokio::test]
    async fn a_message_has_an_end() {
        let mut stage = Stage::start().await;
        let url = format!("https://idp.example.com/{}", "x".repeat(2 * LONGEST));
        let error = IdentityError::OutOfOrder { url, status: 500 };
        stage.errors.failed(Matter::User, &error);
        assert_eq!(stage.next().await.message.chars().count(), LONGEST);
    }
}
