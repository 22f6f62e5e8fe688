//! Follows the databroker: the latest records first, then each change, and that again whenever it breaks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;

use super::parts::Parts;
use super::table::Arrival;
use super::tables::{Seen, Tables};
use super::{Scope, SyncedRecords};
use crate::config_records;
use crate::databroker::{Error, Latest, Record, RecordStream, Versions};

/// First pause after a failure; doubles up to [`LONGEST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts to reach the databroker.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl SyncedRecords {
    pub(super) async fn follow_forever(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = self.follow(&mut pause).await;
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
            // Until the records are read again, those of a replaced database are still believed: at once,
            // unless this goes round in circles.
            if !(restart && pause == FIRST_PAUSE) {
                tokio::time::sleep(self.spread(pause)).await;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
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
    async fn follow(&self, pause: &mut Duration) -> Error {
        let position = self.position();
        let started = match (position, self.scope) {
            (Some(position), _) => Ok(position),
            (None, Scope::All) => self.read_all().await,
            (None, Scope::Configuration) => self.read_configuration().await,
        };
        let from = match started {
            Ok(from) => from,
            Err(error) => return error,
        };
        match self.broker.sync("", from).await {
            Ok(stream) => {
                if let Some(contact) = &self.contact {
                    contact.kept();
                }
                self.follow_stream(from.server_version, stream, pause).await
            }
            Err(error) => error,
        }
    }

    async fn follow_stream(
        &self,
        server_version: u64,
        mut stream: RecordStream<Record>,
        pause: &mut Duration,
    ) -> Error {
        while let Some(next) = stream.next().await {
            match next {
                Ok(record) => self.advance(server_version, &record),
                Err(error) => return error,
            }
            *pause = FIRST_PAUSE;
        }
        Error::Unavailable("the stream of changes ended".into())
    }

    /// Reads every live record, drops what is gone, and says where to go on.
    async fn read_all(&self) -> Result<Versions, Error> {
        // Known before the records, so that they are entered under the right database.
        let expected = self.broker.versions().await?;
        let mut stream = self.broker.sync_latest("").await?;
        let mut seen = Seen::new();
        let snapshot = self.begin_snapshot();
        self.tables.structs.begin();
        while let Some(next) = stream.next().await {
            match next? {
                Latest::Versions(at) if at.server_version != expected.server_version => {
                    return Err(Error::Resync);
                }
                Latest::Versions(at) => {
                    self.arrived(&seen, (snapshot, at));
                    return Ok(at);
                }
                Latest::Record(record) => {
                    self.take(expected.server_version, snapshot, &record);
                    Tables::note(&mut seen, record);
                }
            }
        }
        Err(Error::Unavailable(
            "the stream of latest records ended early".into(),
        ))
    }

    /// Reads every configuration record, and says where to go on: where the database stood before.
    async fn read_configuration(&self) -> Result<Versions, Error> {
        let at = self.broker.versions().await?;
        let mut seen = Seen::new();
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
                        self.take(at.server_version, snapshot, &record);
                        Tables::note(&mut seen, record);
                    }
                }
            }
        }
        self.arrived(&seen, (snapshot, at));
        Ok(at)
    }

    /// The number of a snapshot that is about to be read; 0 is none.
    fn begin_snapshot(&self) -> u32 {
        self.snapshots
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1)
            .max(1)
    }

    /// Takes over a record of a snapshot.
    fn take(&self, server_version: u64, snapshot: u32, record: &Record) {
        let writing = self.position.lock();
        let arrival = Arrival {
            snapshot: Some(snapshot),
            ..self.arrival(server_version, Parts::NONE)
        };
        self.apply_to_table(arrival, record);
        drop(writing);
    }

    /// A complete read has been done.
    fn arrived(&self, seen: &Seen, (snapshot, at): (u32, Versions)) {
        let mut position = self.position.lock();
        self.tables.keep_only(seen, (snapshot, at));
        *position = Some(at);
        drop(position);
        self.changed();
        self.ready.send_replace(true);
    }

    /// Takes over the next change of the log.
    fn advance(&self, server_version: u64, record: &Record) {
        let mut position = self.position.lock();
        let changed = self.apply_to_table(self.arrival(server_version, Parts::NONE), record);
        *position = Some(Versions {
            server_version,
            latest_record_version: record.version,
        });
        drop(position);
        self.changed_if(changed);
    }
}
