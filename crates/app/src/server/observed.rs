//! The databroker as everyone here sees it: what the store answers is told to the health checks, so that a disk that is
//! full or gone shows before people ask why they cannot sign in.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_api::databroker::{Databroker, Error};

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

macro_rules! note {
    ($self:ident, $($call:tt)+) => {
        $self.note($self.inner.$($call)+)
    };
}

impl Databroker for Observed {
    pomerium_api::forward_databroker!(note);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use pomerium_api::databroker::{Cleared, Latest, PutReply, Record, RecordStream, Versions};

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
