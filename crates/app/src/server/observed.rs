//! The databroker as everyone here sees it: what the store answers is told to the health checks, so that a disk that is
//! full or gone shows before people ask why they cannot sign in.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pomerium_api::databroker::{Databroker, Error};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// The check that tells whether records can be read and written.
pub const OWN: &str = "storage.backend";
/// The same where another process keeps them.
pub const OTHER: &str = "databroker.connection";

/// How often records that cannot be read are looked for. Nothing is read for it, as long as none was met.
const LOOK: Duration = Duration::from_secs(5);

/// A databroker whose failures are reported.
pub struct Observed {
    inner: Arc<dyn Databroker>,
    health: Arc<Health>,
    check: &'static str,
    failing: Mutex<Failing>,
}

/// What does not work. On a full disk that is writing only, and reading goes on all the while.
#[derive(Default)]
struct Failing {
    reads: bool,
    writes: bool,
    /// What is said of records that cannot be read.
    damage: Option<String>,
}

impl Observed {
    /// Watches `inner` for the check `check` of `health`.
    pub fn new(inner: Arc<dyn Databroker>, health: Arc<Health>, check: &'static str) -> Self {
        Self {
            inner,
            health,
            check,
            failing: Mutex::default(),
        }
    }

    /// A store that answers can be read, also when the answer is that there is no such record. If it could not be
    /// before, it was gone as a whole, and writing is given another try as well.
    fn read<'a, T: 'a>(&'a self, answer: BoxFuture<'a, Result<T, Error>>) -> BoxFuture<'a, Result<T, Error>> {
        answer
            .inspect(|result| match result {
                Err(Error::Unavailable(why)) => self.fails(why, |failing| failing.reads = true),
                _ => self.works(|failing| failing.writes &= !std::mem::take(&mut failing.reads)),
            })
            .boxed()
    }

    /// A store that has written something is well; `wrote` tells of an answer whether it has.
    fn write<'a, T: 'a>(
        &'a self,
        answer: BoxFuture<'a, Result<T, Error>>,
        wrote: fn(&T) -> bool,
    ) -> BoxFuture<'a, Result<T, Error>> {
        answer
            .inspect(move |result| match result {
                Err(Error::Unavailable(why)) => self.fails(why, |failing| failing.writes = true),
                Ok(reply) if wrote(reply) => {
                    self.works(|failing| (failing.reads, failing.writes) = (false, false))
                }
                _ => {}
            })
            .boxed()
    }

    fn fails(&self, why: &str, change: impl FnOnce(&mut Failing)) {
        let mut failing = self.failing.lock();
        change(&mut failing);
        self.health.report_error(self.check, why);
    }

    fn works(&self, change: impl FnOnce(&mut Failing)) {
        let mut failing = self.failing.lock();
        change(&mut failing);
        if failing.reads || failing.writes {
            return;
        }
        match &failing.damage {
            Some(damage) => self.health.warn(self.check, damage.as_str()),
            None => self.health.recover(self.check),
        }
    }

    /// Looks for records that cannot be read, now and then until `stop`. All others can: that is shown, and takes nobody
    /// out of service.
    pub async fn watch_damage(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.look_for_damage().await,
            }
        }
    }

    async fn look_for_damage(&self) {
        // A databroker that cannot be asked shows that by itself.
        let Ok(unreadable) = self.inner.unreadable().await else {
            return;
        };
        let damage = unreadable.first().map(|(record_type, id)| {
            format!(
                "records that cannot be read: {}, among them {id} of {record_type}; `pomerium databroker check` names all of \
                 them: delete them or write them anew, or restore a backup",
                unreadable.len()
            )
        });
        self.works(|failing| failing.damage = damage);
    }
}

/// Calls that write, with what their answers say of that; all others read.
macro_rules! note {
    ($self:ident, put($($with:tt)*)) => {
        $self.write($self.inner.put($($with)*), |reply| !reply.records.is_empty())
    };
    ($self:ident, patch($($with:tt)*)) => {
        $self.write($self.inner.patch($($with)*), |reply| !reply.records.is_empty())
    };
    ($self:ident, replace($($with:tt)*)) => {
        $self.write($self.inner.replace($($with)*), Option::is_some)
    };
    ($self:ident, lease($($with:tt)*)) => {
        $self.write($self.inner.lease($($with)*), Option::is_some)
    };
    ($self:ident, release_lease($($with:tt)*)) => {
        $self.write($self.inner.release_lease($($with)*), |_| false)
    };
    ($self:ident, report($($with:tt)*)) => {
        $self.write($self.inner.report($($with)*), |_| true)
    };
    ($self:ident, set_options($($with:tt)*)) => {
        $self.write($self.inner.set_options($($with)*), |_| true)
    };
    ($self:ident, clear($($with:tt)*)) => {
        $self.write($self.inner.clear($($with)*), |_| true)
    };
    ($self:ident, $($call:tt)+) => {
        $self.read($self.inner.$($call)+)
    };
}

impl Databroker for Observed {
    pomerium_api::forward_databroker!(note);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use pomerium_api::databroker::{Cleared, Latest, PutReply, Record, RecordKey, RecordStream, Versions};

    use super::*;
    use crate::health::Status;

    /// Has no records, and answers that it cannot be written, or reached.
    #[derive(Default)]
    struct Disk {
        full: AtomicBool,
        gone: AtomicBool,
        damaged: AtomicBool,
    }

    impl Disk {
        fn fault(&self) -> Option<Error> {
            let gone = self.gone.load(Ordering::Relaxed);
            gone.then(|| Error::Unavailable("no disk".into()))
        }

        fn answer<T: Send + 'static>(&self) -> BoxFuture<'static, Result<T, Error>> {
            std::future::ready(Err(self.fault().unwrap_or(Error::NotFound))).boxed()
        }
    }

    impl Databroker for Disk {
        fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
            self.answer()
        }
        fn get<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
            self.answer()
        }
        fn unreadable(&self) -> BoxFuture<'_, Result<Vec<RecordKey>, Error>> {
            let damaged = self.damaged.load(Ordering::Relaxed);
            let record = damaged.then(|| ("Cat".to_owned(), "tom".to_owned()));
            std::future::ready(Ok(Vec::from_iter(record))).boxed()
        }
        fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
            let full = self.full.load(Ordering::Relaxed);
            let fault = self
                .fault()
                .or_else(|| full.then(|| Error::Unavailable("disk full".into())));
            let written = PutReply {
                server_version: 1,
                records,
            };
            std::future::ready(fault.map_or(Ok(written), Err)).boxed()
        }
        fn sync_latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
            self.answer()
        }
        fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
            self.answer()
        }
        fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
            self.answer()
        }
    }

    struct Stage {
        disk: Arc<Disk>,
        health: Arc<Health>,
        observed: Observed,
    }

    impl Stage {
        fn new() -> Self {
            let disk = Arc::new(Disk::default());
            let health = Arc::new(Health::new(pomerium_config::settings::Services::ALL));
            health.report(OWN, Status::Running);
            let observed = Observed::new(Arc::clone(&disk) as Arc<dyn Databroker>, Arc::clone(&health), OWN);
            Self {
                disk,
                health,
                observed,
            }
        }

        fn error(&self) -> Option<String> {
            self.health.reported()[OWN].error.clone()
        }

        async fn get(&self) -> Option<String> {
            let _ = self.observed.get("t", "i").await;
            self.error()
        }

        async fn put(&self, records: usize) -> Option<String> {
            let _ = self.observed.put(vec![Record::default(); records]).await;
            self.error()
        }
    }

    #[tokio::test]
    async fn a_full_disk_shows_until_something_is_written_however_much_is_read() {
        let stage = Stage::new();
        assert_eq!(
            stage.get().await,
            None,
            "a record that is not there is no failure"
        );
        stage.disk.full.store(true, Ordering::Relaxed);
        assert_eq!(stage.put(1).await.as_deref(), Some("disk full"));
        assert_eq!(stage.get().await.as_deref(), Some("disk full"));
        stage.disk.full.store(false, Ordering::Relaxed);
        assert_eq!(
            stage.put(0).await.as_deref(),
            Some("disk full"),
            "nothing to write"
        );
        assert_eq!(stage.put(1).await, None);
    }

    #[tokio::test]
    async fn a_store_that_was_gone_is_well_once_it_can_be_read() {
        let stage = Stage::new();
        stage.disk.gone.store(true, Ordering::Relaxed);
        assert_eq!(stage.put(1).await.as_deref(), Some("no disk"));
        assert_eq!(stage.get().await.as_deref(), Some("no disk"));
        stage.disk.gone.store(false, Ordering::Relaxed);
        assert_eq!(stage.get().await, None);
    }

    #[tokio::test]
    async fn damage_shows_until_it_is_mended_and_takes_nobody_out_of_service() {
        let stage = Stage::new();
        stage.disk.damaged.store(true, Ordering::Relaxed);
        stage.observed.look_for_damage().await;
        for shown in [stage.error(), stage.get().await, stage.put(1).await] {
            assert!(shown.is_some_and(|shown| shown.contains("1, among them tom of Cat")));
            assert!(stage.health.reported()[OWN].in_service);
        }
        stage.disk.full.store(true, Ordering::Relaxed);
        assert_eq!(stage.put(1).await.as_deref(), Some("disk full"), "what is worse");
        assert!(!stage.health.reported()[OWN].in_service);
        stage.disk.full.store(false, Ordering::Relaxed);
        assert!(stage.put(1).await.is_some());
        stage.disk.damaged.store(false, Ordering::Relaxed);
        stage.observed.look_for_damage().await;
        assert_eq!(stage.error(), None);
    }

    #[tokio::test]
    async fn a_stop_stays_a_stop() {
        let stage = Stage::new();
        stage.health.terminate();
        stage.put(1).await;
        assert_eq!(stage.health.reported()[OWN].status, Status::Terminating);
    }
}
