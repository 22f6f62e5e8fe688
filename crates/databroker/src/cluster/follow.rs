//! What a follower does: a whole copy where that is needed, then every change as it comes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Databroker, Error, Latest, Options, Record, Restarts, Versions};
use prost::Message;
use tokio::sync::watch;

use super::status::{Role, Status};
use crate::store::{Copy, Key, Standing, Store, Write};
use crate::told;

/// First pause after a failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the leader is asked where it stands.
const ASK: Duration = Duration::from_secs(1);
/// Asked so often without a change coming that the leader has: the stream is dead.
const MOST_SILENT: u32 = 10;
/// Every so many times, options and the change log are looked after.
const HOUSEKEEPING: u32 = 60;
/// Changes that are written in one go at most.
const BATCH: usize = 256;
/// Bytes of records that are copied in one go, about.
const PART: usize = 1024 * 1024;

/// Copies `leader` into `store`.
pub(super) struct Follower<S> {
    pub(super) store: Arc<S>,
    pub(super) leader: Arc<dyn Databroker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: watch::Sender<Status>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Why a round of following ended.
enum End {
    Stopped,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<S: Store> Follower<S> {
    /// Until it is told to stop. What it has begun to write is written.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.follow(&mut pause).await {
                End::Stopped => return,
                End::Failed(error) => error,
            };
            tracing::warn!(%error, pause_ms = pause.as_millis(), "this databroker does not follow its leader any more; trying again");
            self.status
                .send_modify(|status| status.role = Role::Alone(error.to_string()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut self.stop) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn follow(&mut self, pause: &mut Duration) -> End {
        let mut copies = Restarts::default();
        loop {
            if let Err(end) = self.follow_once(pause).await {
                match end {
                    End::Failed(Error::Resync) => {
                        // Not round and round, as when the leader cannot read its change log.
                        tokio::select! {
                            () = tokio::time::sleep(copies.pause()) => {}
                            () = stopped(&mut self.stop) => return End::Stopped,
                        }
                        tracing::info!(
                            "the leader's records are copied anew: it is another database, or changed for too long"
                        );
                        if let Err(end) = self.copy_all().await {
                            return end;
                        }
                    }
                    end => return end,
                }
            }
        }
    }

    async fn follow_once(&mut self, pause: &mut Duration) -> Result<(), End> {
        let counters = self.store.counters().await?;
        if counters.standing != Standing::Copy {
            return Err(Error::Resync.into());
        }
        self.status
            .send_modify(|status| status.copied = counters.versions());
        let stream = self.leader.sync("", counters.versions()).await?;
        self.copy_options().await?;
        self.look_for_gaps().await?;
        *pause = FIRST_PAUSE;
        self.take_changes(stream).await
    }

    async fn take_changes(
        &mut self,
        stream: impl Stream<Item = Result<Record, Error>> + Unpin,
    ) -> Result<(), End> {
        let mut batches = stream.ready_chunks(BATCH);
        let mut stop = self.stop.clone();
        let mut asking = Box::pin(ask(
            Arc::clone(&self.leader),
            Arc::clone(&self.clock),
            Duration::ZERO,
        ));
        let (mut asked, mut silent) = (0_u32, 0);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return Err(End::Stopped),
                batch = batches.next() => {
                    silent = 0;
                    self.take(batch.ok_or_else(ended)?).await?;
                }
                answer = &mut asking => {
                    let (at, leader) = answer?;
                    self.status.send_modify(|status| status.heard(leader, at));
                    let complete = self.status.borrow().role == Role::Follows;
                    silent = if complete { 0 } else { silent + 1 };
                    if silent > MOST_SILENT {
                        return Err(Error::Unavailable("the leader has changes and sends none".into()).into());
                    }
                    asked = asked.wrapping_add(1);
                    if asked % HOUSEKEEPING == 0 {
                        self.keep_house().await?;
                    }
                    asking = Box::pin(ask(Arc::clone(&self.leader), Arc::clone(&self.clock), ASK));
                }
            }
        }
    }

    /// Writes the changes up to the first error among them.
    async fn take(&self, batch: Vec<Result<Record, Error>>) -> Result<(), Error> {
        let mut failed = None;
        let mut records = Vec::with_capacity(batch.len());
        for item in batch {
            match item {
                Ok(record) => records.push(record),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(last) = records.last().map(|record| record.version) {
            self.write(Copy::Changes(records)).await?;
            self.status
                .send_modify(|status| status.copied.latest_record_version = last);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn write(&self, step: Copy) -> Result<(), Error> {
        self.store
            .write(Write::Copy(step), self.clock.now())
            .await
            .map(drop)
    }

    /// A whole copy in place of whatever is here. Nothing is touched before the leader has begun to answer.
    async fn copy_all(&mut self) -> Result<(), End> {
        let info = self.leader.info().await?;
        let mut latest = self.leader.sync_latest("").await?;
        let mut begun = false;
        let (mut after, mut records, mut size): (Option<Key>, Vec<Record>, usize) = (None, Vec::new(), 0);
        let mut stop = self.stop.clone();
        loop {
            let item = tokio::select! {
                () = stopped(&mut stop) => return Err(End::Stopped),
                item = latest.next() => item.ok_or_else(ended)??,
            };
            if !begun {
                self.write(Copy::Begin).await?;
                self.status
                    .send_modify(|status| *status = Status::new(Role::CatchesUp));
                begun = true;
            }
            match item {
                Latest::Record(record) => {
                    size += record.encoded_len();
                    records.push(record);
                    if size < PART {
                        continue;
                    }
                    let last = records
                        .last()
                        .map(|record| (record.r#type.clone(), record.id.clone()));
                    let records = std::mem::take(&mut records);
                    self.write(Copy::Part {
                        after: after.take(),
                        records,
                        last: false,
                    })
                    .await?;
                    (after, size) = (last, 0);
                }
                // Replaced meanwhile: its term is another one, too.
                Latest::Versions(versions) if versions.server_version != info.server_version => {
                    return Err(Error::Resync.into());
                }
                Latest::Versions(versions) => {
                    self.write(Copy::Part {
                        after,
                        records,
                        last: true,
                    })
                    .await?;
                    let term = info.term;
                    self.write(Copy::End { versions, term }).await?;
                    self.status.send_modify(|status| status.copied = versions);
                    return Ok(());
                }
            }
        }
    }

    async fn keep_house(&self) -> Result<(), Error> {
        self.copy_options().await?;
        self.look_for_gaps().await?;
        let now = self.clock.now();
        if let Ok(before) = now.checked_sub(crate::RETENTION) {
            self.store.write(Write::Trim(before), now).await?;
        }
        Ok(())
    }

    /// Which records are not here because the leader cannot read them.
    async fn look_for_gaps(&self) -> Result<(), Error> {
        let unreadable = match self.leader.unreadable().await {
            // One of a former version cannot say.
            Err(Error::Unsupported(_)) => Vec::new(),
            unreadable => unreadable?,
        };
        let mut left_out = Vec::new();
        for key in unreadable {
            if self.store.get(&key.0, &key.1).await == Ok(None) {
                left_out.push(key);
            }
        }
        let count = left_out.len();
        let news = self.status.send_if_modified(|status| {
            let news = status.left_out != left_out;
            status.left_out = left_out;
            news
        });
        if news && count > 0 {
            tracing::error!(
                count,
                "the leader has records that it cannot read: they are missing in the copy here"
            );
        }
        Ok(())
    }

    /// How the leader keeps records of each type.
    async fn copy_options(&self) -> Result<(), Error> {
        let told = told::options(&*self.leader).await?;
        let own = self.store.all_options().await?;
        let gone = own
            .keys()
            .filter(|record_type| told.whole && !told.types.contains_key(*record_type))
            .map(|record_type| (record_type.clone(), None));
        let set = told
            .types
            .iter()
            .filter(|(record_type, options)| own.get(*record_type) != Some(options))
            .map(|(record_type, options)| (record_type.clone(), Some(options.clone())));
        let changed: Vec<(String, Option<Options>)> = gone.chain(set).collect();
        match changed.is_empty() {
            true => Ok(()),
            false => self.write(Copy::Options(changed)).await,
        }
    }
}

/// Once it is told to stop, or nobody is left to tell.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn ended() -> Error {
    Error::Unavailable("the leader ended the stream".into())
}

/// Where the leader stands after a pause, and when it was asked.
async fn ask(
    leader: Arc<dyn Databroker>,
    clock: Arc<dyn Clock>,
    pause: Duration,
) -> Result<(Timestamp, Versions), Error> {
    tokio::time::sleep(pause).await;
    let at = clock.now();
    Ok((at, leader.versions().await?))
}
