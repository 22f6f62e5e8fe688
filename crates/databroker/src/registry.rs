//! Which services run where (spec databroker.md 14): services report themselves again and again; one that stops is
//! forgotten after a while, and whoever watches is told.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Error, RecordStream, Service};
use tokio::sync::watch;

use crate::limits;
use crate::store::{Registered, Store};

/// How long a service is known after a report.
pub(crate) const TTL: Duration = Duration::from_secs(30);
/// When a service reports again.
pub(crate) const AGAIN: Duration = Duration::from_secs(15);
/// How often watchers look without being told.
const LOOK: Duration = Duration::from_secs(30);
/// How many services one report may name.
const MOST: usize = 256;
/// The longest address, in bytes.
const LONGEST: usize = 2048;

/// Errors with [`Error::Invalid`] when a report is larger than any honest one.
pub(crate) fn check(services: &[Service]) -> Result<(), Error> {
    if services.len() > MOST {
        let count = services.len();
        return Err(Error::Invalid(format!(
            "a report of {count} services; {MOST} are allowed"
        )));
    }
    services
        .iter()
        .try_for_each(|service| limits::within("address of a service", &service.endpoint, LONGEST))
}

/// Those of the kinds asked for; all, if there are none.
pub(crate) fn of_kinds(registered: &[Registered], kinds: &[i32]) -> Vec<Service> {
    let wanted = registered
        .iter()
        .filter(|service| kinds.is_empty() || kinds.contains(&service.kind));
    wanted
        .map(|service| Service {
            kind: service.kind,
            endpoint: service.endpoint.clone(),
        })
        .collect()
}

/// The list at once, and again whenever it is another one: after reports, and when the time of a service is over.
pub(crate) fn watch<S: Store>(
    store: &Arc<S>,
    clock: Arc<dyn Clock>,
    closed: watch::Receiver<bool>,
    kinds: Vec<i32>,
) -> RecordStream<Vec<Service>> {
    let watcher = Watcher {
        // Before the first read, so that no report is missed in between.
        changed: store.watch_services(),
        store: Arc::downgrade(store),
        clock,
        closed,
        kinds,
        told: None,
    };
    stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(services) => Some((Ok(services), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Watcher<S> {
    store: Weak<S>,
    clock: Arc<dyn Clock>,
    changed: watch::Receiver<()>,
    closed: watch::Receiver<bool>,
    kinds: Vec<i32>,
    told: Option<Vec<Service>>,
}

impl<S: Store> Watcher<S> {
    async fn next(&mut self) -> Result<Vec<Service>, Error> {
        loop {
            if *self.closed.borrow() {
                return Err(closed());
            }
            self.changed.mark_unchanged();
            let (services, next) = self.read().await?;
            if self.told.as_ref() != Some(&services) {
                self.told = Some(services.clone());
                return Ok(services);
            }
            tokio::select! {
                changed = self.changed.changed() => changed.map_err(|_| closed())?,
                _ = self.closed.wait_for(|closed| *closed) => return Err(closed()),
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// The services, and when to look again.
    async fn read(&self) -> Result<(Vec<Service>, Duration), Error> {
        let store = self.store.upgrade().ok_or_else(closed)?;
        let now = self.clock.now();
        let registered = store.services(now).await?;
        let first_end = registered.iter().map(|service| service.expires).min();
        let next = first_end.and_then(|end| Duration::try_from(end.duration_since(now)).ok());
        Ok((of_kinds(&registered, &self.kinds), next.unwrap_or(LOOK).min(LOOK)))
    }
}

fn closed() -> Error {
    Error::Unavailable("the databroker is closed".into())
}

#[cfg(test)]
mod tests {
    use pomerium_api::clock::SystemClock;

    use super::*;
    use crate::MemoryStore;
    use crate::store::Write;

    #[tokio::test]
    async fn one_that_falls_silent_is_missed_without_a_word() {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
        let (open, closed) = watch::channel(false);
        let service = Service {
            kind: 4,
            endpoint: "https://a.example.com".into(),
        };
        let report = Write::Report {
            services: vec![service.clone()],
            ttl: Duration::from_millis(200),
        };
        store.write(report, clock.now()).await.unwrap();
        let mut watched = super::watch(&store, clock, closed, vec![]);
        assert_eq!(watched.next().await.unwrap().unwrap(), [service]);
        assert_eq!(watched.next().await.unwrap().unwrap(), vec![]);
        open.send_replace(true);
        assert!(watched.next().await.unwrap().is_err());
    }
}
