//! The databroker as everyone here sees it: what the store answers is told to the health checks, so that a disk that is
//! full or gone shows before people ask why they cannot sign in.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, LeaseRequest, Options, Page, PutReply, Query, Record, RecordStream,
    ServerInfo, Service, Versions,
};

use crate::health::Health;

/// The check that tells whether records can be read and written.
pub const OWN: &str = "storage.backend";
/// The same where another process keeps them.
pub const OTHER: &str = "databroker.connection";

/// A databroker whose failures are reported.
pub struct Observed {
    inner: Arc<dyn Databroker>,
    health: Arc<Health>,
    check: &'static str,
}

impl Observed {
    /// Watches `inner` for the check `check` of `health`.
    pub fn new(inner: Arc<dyn Databroker>, health: Arc<Health>, check: &'static str) -> Self {
        Self { inner, health, check }
    }

    /// A store that answers is well, also when the answer is that there is no such record.
    fn note<'a, T: 'a>(&'a self, answer: BoxFuture<'a, Result<T, Error>>) -> BoxFuture<'a, Result<T, Error>> {
        answer
            .inspect(|result| match result {
                Err(Error::Unavailable(why)) => self.health.report_error(self.check, why.as_str()),
                _ => self.health.recover(self.check),
            })
            .boxed()
    }
}

impl Databroker for Observed {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        self.note(self.inner.versions())
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        self.note(self.inner.get(record_type, id))
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        self.note(self.inner.put(records))
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        self.note(self.inner.replace(record))
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        self.note(self.inner.sync_latest(record_type))
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        self.note(self.inner.sync(record_type, from))
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        self.note(self.inner.clear())
    }

    fn sync_until_now<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        self.note(self.inner.sync_until_now(record_type, from))
    }

    fn info(&self) -> BoxFuture<'_, Result<ServerInfo, Error>> {
        self.note(self.inner.info())
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Page, Error>> {
        self.note(self.inner.query(query))
    }

    fn patch(&self, records: Vec<Record>, mask: Vec<String>) -> BoxFuture<'_, Result<PutReply, Error>> {
        self.note(self.inner.patch(records, mask))
    }

    fn types(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        self.note(self.inner.types())
    }

    fn options<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<Option<Options>, Error>> {
        self.note(self.inner.options(record_type))
    }

    fn set_options(&self, record_type: String, options: Options) -> BoxFuture<'_, Result<(), Error>> {
        self.note(self.inner.set_options(record_type, options))
    }

    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
        self.note(self.inner.lease(request))
    }

    fn release_lease(&self, name: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
        self.note(self.inner.release_lease(name, id))
    }

    fn report(&self, services: Vec<Service>) -> BoxFuture<'_, Result<Duration, Error>> {
        self.note(self.inner.report(services))
    }

    fn services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<Vec<Service>, Error>> {
        self.note(self.inner.services(kinds))
    }

    fn watch_services(&self, kinds: Vec<i32>) -> BoxFuture<'_, Result<RecordStream<Vec<Service>>, Error>> {
        self.note(self.inner.watch_services(kinds))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::health::Status;

    /// Answers that there is no record, or that the disk is full.
    #[derive(Default)]
    struct Disk(AtomicBool);

    impl Disk {
        fn answer<T: Send + 'static>(&self) -> BoxFuture<'static, Result<T, Error>> {
            let full = self.0.load(Ordering::Relaxed);
            let error = if full {
                Error::Unavailable("disk full".into())
            } else {
                Error::NotFound
            };
            std::future::ready(Err(error)).boxed()
        }
    }

    impl Databroker for Disk {
        fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
            self.answer()
        }
        fn get<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
            self.answer()
        }
        fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
            self.answer()
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

    #[tokio::test]
    async fn a_full_disk_shows_until_it_answers_again_and_a_stop_stays_a_stop() {
        let (disk, health) = (
            Arc::new(Disk::default()),
            Arc::new(Health::new(pomerium_config::settings::Services::ALL)),
        );
        health.report(OWN, Status::Running);
        let observed = Observed::new(Arc::clone(&disk) as Arc<dyn Databroker>, Arc::clone(&health), OWN);
        let error = || health.reported()[OWN].error.clone();
        assert!(observed.get("t", "i").await.is_err());
        assert_eq!(error(), None, "a record that is not there is no failure");
        disk.0.store(true, Ordering::Relaxed);
        assert!(observed.put(Vec::new()).await.is_err());
        assert_eq!(error().as_deref(), Some("disk full"));
        disk.0.store(false, Ordering::Relaxed);
        assert!(observed.put(Vec::new()).await.is_err());
        assert_eq!(error(), None);
        health.terminate();
        assert!(observed.put(Vec::new()).await.is_err());
        assert_eq!(health.reported()[OWN].status, Status::Terminating);
    }
}
