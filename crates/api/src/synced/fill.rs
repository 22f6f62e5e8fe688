//! Which parts of sessions are kept, and getting those that were left out when something begins to read them.
//!
//! What is got is put into sessions that are here in the same version, and changes nothing else: a session that is gone
//! stays gone, and one that is newer stays as it is. So this may go on beside the changes that are followed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use tokio::sync::watch;

use super::entry::SessionEntry;
use super::follow::{FIRST_PAUSE, LONGEST_PAUSE};
use super::parts::Parts;
use super::table::Arrival;
use super::{Contact, SyncedRecords};
use crate::databroker::{Error, Latest, Record};
use crate::pb::session::Session;
use crate::records::RecordMessage;

/// Written under the lock of the position.
pub(super) struct Kept {
    /// What is kept of sessions that come.
    parts: watch::Sender<Parts>,
    /// What every session has that is here.
    complete: watch::Sender<Parts>,
    /// How often less was kept than before.
    less: AtomicU64,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self {
            parts: watch::Sender::new(Parts::NONE),
            complete: watch::Sender::new(Parts::NONE),
            less: AtomicU64::new(0),
        }
    }

    fn parts(&self) -> Parts {
        *self.parts.borrow()
    }

    fn complete(&self) -> Parts {
        *self.complete.borrow()
    }
}

impl SyncedRecords {
    /// Sets what is kept of sessions from now on. What was left out of those that are here is got from the databroker,
    /// see [`Self::wait_kept`]; what is not to be kept any more goes when they change.
    pub fn keep(&self, parts: Parts) {
        let writing = self.position.lock();
        let nobody = self.tables.sessions.is_empty();
        let complete = self.kept.complete().common(parts);
        self.kept
            .complete
            .send_replace(if nobody { parts } else { complete });
        if !parts.covers(self.kept.parts()) {
            self.kept.less.fetch_add(1, Ordering::Relaxed);
        }
        self.kept.parts.send_replace(parts);
        drop(writing);
    }

    /// What is kept of sessions.
    pub fn kept(&self) -> Parts {
        self.kept.parts()
    }

    /// Waits until every session here has `parts`, which must be kept. False at once when the databroker is out of
    /// reach: then they come when it is back.
    pub async fn wait_kept(&self, parts: Parts) -> bool {
        let mut complete = self.kept.complete.subscribe();
        let mut lost = self.contact.as_ref().map(Contact::told);
        let lost = async {
            match &mut lost {
                Some(lost) => drop(lost.wait_for(|lost| *lost).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender lives in `self`.
            _ = complete.wait_for(|complete| complete.covers(parts)) => true,
            () = lost => false,
        }
    }

    /// Asks the databroker for a session of which some of `parts` was left out; callers that ask for one id at the same
    /// time share the question.
    ///
    /// The session as it is here then: with all of `parts`, unless the databroker knows another version than is known
    /// here. `None` when it is gone. Errors are those of the databroker, without [`Error::NotFound`].
    pub async fn complete_session(&self, id: &str, parts: Parts) -> Result<Option<Arc<SessionEntry>>, Error> {
        let (joined, answer) = self.flights.ask(&self.broker, id).await;
        let found = self.accept_session(id, answer?, parts);
        let lacks = found.as_ref().is_some_and(|entry| entry.left_out.any(parts));
        if !(joined && lacks) {
            return Ok(found);
        }
        // The question shared may have been asked before the version that is here was written.
        let (_, answer) = self.flights.ask(&self.broker, id).await;
        Ok(self.accept_session(id, answer?, parts))
    }

    /// How a record comes of which `parts` are kept beside those that always are.
    pub(super) fn arrival(&self, server_version: u64, parts: Parts) -> Arrival {
        Arrival {
            server_version,
            keep: self.kept.parts().and(parts),
            snapshot: None,
        }
    }

    /// Only called with the position locked.
    pub(super) fn complete_in_table(&self, server_version: u64, record: &Record, parts: Parts) {
        let arrival = self.arrival(server_version, parts);
        self.tables.sessions.complete(arrival, record);
    }

    /// Gets what is to be kept and was left out, whenever there is any.
    pub(super) async fn fill_forever(&self) {
        let mut wanted = self.kept.parts.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            let parts = *wanted.borrow_and_update();
            if self.kept.complete().covers(parts) {
                // The sender lives in `self`.
                let _ = wanted.changed().await;
                continue;
            }
            self.wait_ready().await;
            match self.fill(parts).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "sessions could not be read again for what is kept of them now");
                    tokio::time::sleep(self.spread(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Reads every session again. A session that the databroker has in another version than is here comes by the stream
    /// of changes.
    async fn fill(&self, parts: Parts) -> Result<(), Error> {
        let less = self.kept.less.load(Ordering::Relaxed);
        let expected = self.broker.versions().await?;
        let mut stream = self.broker.sync_latest(Session::TYPE).await?;
        while let Some(next) = stream.next().await {
            match next? {
                Latest::Versions(at) if at.server_version != expected.server_version => {
                    return Err(Error::Resync);
                }
                Latest::Versions(_) => {
                    self.filled(parts, less);
                    return Ok(());
                }
                Latest::Record(record) => {
                    let writing = self.position.lock();
                    self.complete_in_table(expected.server_version, &record, Parts::NONE);
                    drop(writing);
                }
            }
        }
        Err(Error::Unavailable("the stream of sessions ended early".into()))
    }

    /// Every session has `parts`, unless meanwhile less was kept of those that came.
    fn filled(&self, parts: Parts, less: u64) {
        let writing = self.position.lock();
        if less == self.kept.less.load(Ordering::Relaxed) {
            self.kept
                .complete
                .send_modify(|complete| *complete = complete.and(parts));
        }
        drop(writing);
    }
}
