//! Follows the databroker: the latest records first, then each change, and that again whenever it breaks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use super::parts::Parts;
use super::table::Arrival;
use super::tables::{Seen, Tables};
use super::{Scope, SyncedRecords};
use crate::config_records;
use crate::databroker::{
    Error, Latest, Record, RecordStream, Restarts, SyncCall, SyncObserver, SyncState, Versions,
};

/// First pause after a failure; doubles up to [`LONGEST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts to reach the databroker.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pause before everything is read again from another process, which as many processes do as there are.
const BEFORE_ALL: Duration = Duration::from_millis(250);

impl SyncedRecords {
    pub(super) async fn follow_forever(&self, observer: &dyn SyncObserver) {
        let (mut pause, mut restarts) = (FIRST_PAUSE, Restarts::default());
        loop {
            observer.state(SyncState::Pending);
            let error = self.follow(&mut pause, observer).await;
            if let Some(contact) = &self.contact {
                contact.lost();
            }
            let restart = error == Error::Resync;
            if restart {
                tracing::info!("the databroker was cleared or replaced; reading all records again");
                *self.position.lock() = None;
            } else {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "databroker sync interrupted");
            }
            let wait = match restart {
                true => pause.max(restarts.pause()),
                false => pause,
            };
            tokio::time::sleep(self.before_next(restart, wait)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// How long to wait. Until the records are read again, those of a replaced database are still believed: where nobody
    /// else asks, not at all, unless this goes round in circles.
    fn before_next(&self, restart: bool, pause: Duration) -> Duration {
        match (restart, &self.contact) {
            (true, Some(_)) => self.spread(pause.max(BEFORE_ALL)),
            (true, None) if pause == FIRST_PAUSE => Duration::ZERO,
            _ => self.spread(pause),
        }
    }

    /// Many processes lose the same databroker at the same moment; they do not come back all at once.
    pub(super) fn spread(&self, pause: Duration) -> Duration {
        match self.contact {
            Some(_) => pause.mul_f64(rand::random_range(0.5..1.5)),
            None => pause,
        }
    }

    /// One connection: catches up if needed, then follows until something fails.
    async fn follow(&self, pause: &mut Duration, observer: &dyn SyncObserver) -> Error {
        let started = match self.position() {
            Some(position) => Ok(position),
            None => self.start_over(observer).await,
        };
        let from = match started {
            Ok(from) => from,
            Err(error) => return error,
        };
        observer.asked(SyncCall::Sync);
        let error = match self.broker.sync("", from).await {
            Ok(stream) => {
                if let Some(contact) = &self.contact {
                    contact.kept();
                }
                observer.state(SyncState::Active);
                self.follow_stream(from.server_version, stream, pause, observer)
                    .await
            }
            Err(error) => error,
        };
        observer.failed(SyncCall::Sync);
        error
    }

    async fn follow_stream(
        &self,
        server_version: u64,
        mut stream: RecordStream<Record>,
        pause: &mut Duration,
        observer: &dyn SyncObserver,
    ) -> Error {
        while let Some(next) = stream.next().await {
            match next {
                Ok(record) => {
                    let began = Instant::now();
                    let at = self.advance(server_version, &record);
                    observer.updated(began.elapsed());
                    observer.reached(at);
                }
                Err(error) => return error,
            }
            *pause = FIRST_PAUSE;
        }
        Error::Unavailable("the stream of changes ended".into())
    }

    /// Reads everything that is kept here, and says where to go on.
    async fn start_over(&self, observer: &dyn SyncObserver) -> Result<Versions, Error> {
        observer.asked(SyncCall::SyncLatest);
        let read = match self.scope {
            Scope::All => self.read_all(observer).await,
            Scope::Configuration => self.read_configuration(observer).await,
        };
        match &read {
            Ok(at) => observer.reached(*at),
            Err(_) => observer.failed(SyncCall::SyncLatest),
        }
        read
    }

    /// Reads every live record, drops what is gone, and says where to go on.
    async fn read_all(&self, observer: &dyn SyncObserver) -> Result<Versions, Error> {
        // Known before the records, so that they are entered under the right database.
        let expected = self.broker.versions().await?;
        let mut stream = self.broker.sync_latest("").await?;
        let mut seen = Seen::new();
        let mut spent = Duration::ZERO;
        let snapshot = self.begin_snapshot();
        self.tables.structs.begin();
        while let Some(next) = stream.next().await {
            match next? {
                Latest::Versions(at) if at.server_version != expected.server_version => {
                    return Err(Error::Resync);
                }
                Latest::Versions(at) => {
                    observer.updated(spent);
                    observer.cleared(self.arrived(&seen, (snapshot, at)));
                    return Ok(at);
                }
                Latest::Record(record) => {
                    spent += self.take(expected.server_version, snapshot, &record);
                    Tables::note(&mut seen, record);
                }
            }
        }
        Err(Error::Unavailable(
            "the stream of latest records ended early".into(),
        ))
    }

    /// Reads every configuration record, and says where to go on: where the database stood before.
    async fn read_configuration(&self, observer: &dyn SyncObserver) -> Result<Versions, Error> {
        let at = self.broker.versions().await?;
        let mut seen = Seen::new();
        let mut spent = Duration::ZERO;
        let snapshot = self.begin_snapshot();
        for kind in self.broker.types().await? {
            if !kind.starts_with(config_records::PREFIX) {
                continue;
            }
            let mut stream = self.broker.sync_latest(&kind).await?;
            while let Some(next) = stream.next().await {
                match next? {
                    Latest::Versions(now) if now.server_version != at.server_version => {
                        return Err(Error::Resync);
                    }
                    Latest::Versions(_) => {}
                    Latest::Record(record) => {
                        spent += self.take(at.server_version, snapshot, &record);
                        Tables::note(&mut seen, record);
                    }
                }
            }
        }
        observer.updated(spent);
        observer.cleared(self.arrived(&seen, (snapshot, at)));
        Ok(at)
    }

    /// The number of a snapshot that is about to be read; 0 is none.
    fn begin_snapshot(&self) -> u32 {
        self.snapshots
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1)
            .max(1)
    }

    /// Takes over a record of a snapshot. How long that took.
    fn take(&self, server_version: u64, snapshot: u32, record: &Record) -> Duration {
        let began = Instant::now();
        let writing = self.position.lock();
        let arrival = Arrival {
            snapshot: Some(snapshot),
            ..self.arrival(server_version, Parts::NONE)
        };
        self.apply_to_table(arrival, record);
        drop(writing);
        began.elapsed()
    }

    /// A complete read has been done: what it did not name goes. How long that took.
    fn arrived(&self, seen: &Seen, (snapshot, at): (u32, Versions)) -> Duration {
        let began = Instant::now();
        let mut position = self.position.lock();
        self.tables.keep_only(seen, (snapshot, at));
        *position = Some(at);
        drop(position);
        self.changed();
        self.ready.send_replace(true);
        began.elapsed()
    }

    /// Takes over the next change of the log, and says how far it has been followed.
    fn advance(&self, server_version: u64, record: &Record) -> Versions {
        let at = Versions {
            server_version,
            latest_record_version: record.version,
        };
        let mut position = self.position.lock();
        let changed = self.apply_to_table(self.arrival(server_version, Parts::NONE), record);
        *position = Some(at);
        drop(position);
        self.changed_if(changed);
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use jiff::Timestamp;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;
    use crate::clock::ManualClock;
    use crate::databroker::{Cleared, Databroker, PutReply};

    /// A databroker that fails, and tells when it was asked.
    struct Failing {
        asked: mpsc::UnboundedSender<Instant>,
        with: Error,
    }

    impl Failing {
        fn answer<T: Send + 'static>(&self) -> BoxFuture<'static, Result<T, Error>> {
            let _ = self.asked.send(Instant::now());
            std::future::ready(Err(self.with.clone())).boxed()
        }
    }

    impl Databroker for Failing {
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

    /// The first pauses of one that follows a databroker that fails with this.
    async fn pauses<const N: usize>(with: Error, of_another_process: bool) -> [Duration; N] {
        let (asked, mut times) = mpsc::unbounded_channel();
        let broker = Arc::new(Failing { asked, with });
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let records = match of_another_process {
            true => SyncedRecords::of_another_process(broker, clock, Duration::from_secs(300)),
            false => SyncedRecords::new(broker),
        };
        let following = tokio::spawn(records.run(std::future::pending()));
        let mut last = times.recv().await.unwrap();
        let mut pauses = [Duration::ZERO; N];
        for pause in &mut pauses {
            let next = times.recv().await.unwrap();
            *pause = next - last;
            last = next;
        }
        following.abort();
        pauses
    }

    fn around(pause: Duration) -> std::ops::RangeInclusive<Duration> {
        // Timers of tokio count whole milliseconds.
        pause / 2..=pause * 3 / 2 + Duration::from_millis(1)
    }

    #[tokio::test(start_paused = true)]
    async fn many_do_not_come_back_at_the_same_moment() {
        let gone = Error::Unavailable("gone".into());
        for (with, first) in [(gone, FIRST_PAUSE), (Error::Resync, BEFORE_ALL)] {
            let mut seen = BTreeSet::new();
            for _ in 0..32 {
                let [pause] = pauses(with.clone(), true).await;
                assert!(around(first).contains(&pause), "{with}: {pause:?}");
                seen.insert(pause);
            }
            assert!(seen.len() > 8, "{with}: {seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_the_longest() {
        let gone = Error::Unavailable("gone".into());
        let pauses: [_; 12] = pauses(gone, true).await;
        let mut expected = FIRST_PAUSE;
        for pause in pauses {
            assert!(
                around(expected).contains(&pause),
                "{pause:?} instead of {expected:?}"
            );
            expected = (expected * 2).min(LONGEST_PAUSE);
        }
    }

    /// A databroker whose change log has damage between good changes, again and again.
    struct Patchy {
        read: mpsc::UnboundedSender<Instant>,
    }

    impl Databroker for Patchy {
        fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
            std::future::ready(Ok(Versions::default())).boxed()
        }
        fn get<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
            std::future::ready(Err(Error::NotFound)).boxed()
        }
        fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
            std::future::ready(Err(Error::NotFound)).boxed()
        }
        fn sync_latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
            let _ = self.read.send(Instant::now());
            let end = futures_util::stream::iter([Ok(Latest::Versions(Versions::default()))]);
            std::future::ready(Ok(end.boxed())).boxed()
        }
        fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
            let changes = futures_util::stream::iter([Ok(Record::default()), Err(Error::Resync)]);
            std::future::ready(Ok(changes.boxed())).boxed()
        }
        fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
            std::future::ready(Err(Error::NotFound)).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn damage_in_a_change_log_does_not_have_everything_read_round_and_round() {
        let (read, mut times) = mpsc::unbounded_channel();
        let records = SyncedRecords::new(Arc::new(Patchy { read }));
        let following = tokio::spawn(records.run(std::future::pending()));
        let mut last = times.recv().await.unwrap();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let next = times.recv().await.unwrap();
            pauses.push(next - last);
            last = next;
        }
        following.abort();
        assert_eq!(pauses[0], Duration::ZERO, "one damage costs nothing");
        assert!(pauses[9] >= LONGEST_PAUSE, "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_of_this_process_is_read_again_at_once_but_not_round_and_round() {
        let [first, second] = pauses(Error::Resync, false).await;
        assert_eq!(first, Duration::ZERO);
        assert!(second >= FIRST_PAUSE, "{second:?}");
    }
}
