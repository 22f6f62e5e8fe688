//! The databroker as everyone here sees it: what the store answers is told to the health checks, so that a disk that is
//! full or gone shows before people ask why they cannot sign in.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::databroker::{Databroker, Error, Latest, Page, PutReply, RecordStream, Versions};
use pomerium_api::pb::databroker::Record;

use crate::health::Health;

/// The check that tells whether records can be read and written.
const CHECK: &str = "storage.backend";

/// A databroker whose failures are reported.
pub struct Observed {
    inner: Arc<dyn Databroker>,
    health: Arc<Health>,
}

impl Observed {
    /// Watches `inner` for `health`.
    pub fn new(inner: Arc<dyn Databroker>, health: Arc<Health>) -> Self {
        Self { inner, health }
    }

    /// A store that answers is well, also when the answer is that there is no such record.
    fn note<'a, T: 'a>(&'a self, answer: BoxFuture<'a, Result<T, Error>>) -> BoxFuture<'a, Result<T, Error>> {
        answer
            .inspect(|result| match result {
                Err(Error::Unavailable(why)) => self.health.report_error(CHECK, why.as_str()),
                _ => self.health.recover(CHECK),
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

    fn list<'a>(
        &'a self,
        record_type: &'a str,
        offset: u64,
        limit: u64,
    ) -> BoxFuture<'a, Result<Page, Error>> {
        self.note(self.inner.list(record_type, offset, limit))
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

    fn clear(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.note(self.inner.clear())
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
        fn list<'a>(&'a self, _: &'a str, _: u64, _: u64) -> BoxFuture<'a, Result<Page, Error>> {
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
        fn clear(&self) -> BoxFuture<'_, Result<u64, Error>> {
            self.answer()
        }
    }

    #[tokio::test]
    async fn a_full_disk_shows_until_it_answers_again_and_a_stop_stays_a_stop() {
        let (disk, health) = (Arc::new(Disk::default()), Arc::new(Health::default()));
        health.report(CHECK, Status::Running);
        let observed = Observed::new(Arc::clone(&disk) as Arc<dyn Databroker>, Arc::clone(&health));
        let error = || health.reported()[CHECK].error.clone();
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
        assert_eq!(health.reported()[CHECK].status, Status::Terminating);
    }
}
