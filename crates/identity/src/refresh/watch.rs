//! The sessions as they come and go, as one stream that mends itself.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use pomerium_api::databroker::{
    Databroker, Error, Latest, Record, RecordStream, Restarts, SyncCall, SyncObserver, SyncState, Versions,
};
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage, from_record};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// These are all sessions there are.
    All(Vec<Session>),
    /// A session is new or different.
    Changed(Box<Session>),
    /// A session is gone.
    Gone(String),
}

/// Never ends. `observer` learns how it goes.
pub(super) fn sessions(
    broker: Arc<dyn Databroker>,
    observer: Arc<dyn SyncObserver>,
) -> BoxStream<'static, Event> {
    observer.state(SyncState::Pending);
    let watcher = Watcher {
        broker,
        observer,
        position: None,
        changes: None,
        pause: FIRST_PAUSE,
        restarts: Restarts::default(),
    };
    stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await;
        Some((event, watcher))
    })
    .boxed()
}

struct Watcher {
    broker: Arc<dyn Databroker>,
    observer: Arc<dyn SyncObserver>,
    position: Option<Versions>,
    changes: Option<RecordStream<Record>>,
    pause: Duration,
    restarts: Restarts,
}

impl Watcher {
    async fn next(&mut self) -> Event {
        loop {
            match self.step().await {
                Ok(Some(event)) => {
                    self.pause = FIRST_PAUSE;
                    return event;
                }
                Ok(None) => {}
                Err(error) => {
                    self.observer.failed(self.call());
                    self.observer.state(SyncState::Pending);
                    self.changes = None;
                    let wait = if error == Error::Resync {
                        self.position = None;
                        self.pause.max(self.restarts.pause())
                    } else {
                        tracing::warn!(%error, "cannot follow the sessions; will try again");
                        self.pause
                    };
                    tokio::time::sleep(wait).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// What the databroker is asked for in a step.
    fn call(&self) -> SyncCall {
        match self.position {
            None => SyncCall::SyncLatest,
            Some(_) => SyncCall::Sync,
        }
    }

    async fn step(&mut self) -> Result<Option<Event>, Error> {
        if self.changes.is_none() {
            self.observer.asked(self.call());
        }
        let Some(position) = self.position.as_mut() else {
            return self.read_all().await.map(Some);
        };
        let Some(changes) = self.changes.as_mut() else {
            self.changes = Some(self.broker.sync(Session::TYPE, *position).await?);
            self.observer.state(SyncState::Active);
            return Ok(None);
        };
        let ended = || Error::Unavailable("the stream of changes ended".into());
        let record = changes.next().await.ok_or_else(ended)??;
        position.latest_record_version = record.version;
        self.observer.reached(*position);
        Ok(if record.deleted_at.is_some() {
            Some(Event::Gone(record.id))
        } else {
            decode(&record).map(|session| Event::Changed(Box::new(session)))
        })
    }

    async fn read_all(&mut self) -> Result<Event, Error> {
        let mut stream = self.broker.sync_latest(Session::TYPE).await?;
        let mut sessions = Vec::new();
        while let Some(item) = stream.next().await {
            match item? {
                Latest::Record(record) => sessions.extend(decode(&record)),
                Latest::Versions(at) => {
                    self.position = Some(at);
                    self.observer.reached(at);
                    return Ok(Event::All(sessions));
                }
            }
        }
        Err(Error::Unavailable(
            "the stream of latest records ended early".into(),
        ))
    }
}

fn decode(record: &Record) -> Option<Session> {
    from_record(record)
        .inspect_err(|error| tracing::warn!(%error, "a session that cannot be read is left out"))
        .ok()
}
