//! A databroker in a map: enough for sign-in, which reads and writes records and never follows changes.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, Options, PutReply, Record, RecordStream, Versions,
};
use pomerium_api::pb::session::Session;
use pomerium_api::records::{RecordMessage, from_record};

#[derive(Default)]
pub struct MapBroker {
    records: Mutex<BTreeMap<(String, String), Record>>,
    down: Mutex<bool>,
    /// What somebody else writes just before the next conditional write.
    rival: Mutex<Option<Record>>,
}

impl MapBroker {
    /// Live sessions.
    pub fn sessions(&self) -> Vec<Session> {
        let records = self.records.lock();
        let live = records.values().filter(|record| record.deleted_at.is_none());
        live.filter(|record| record.r#type == Session::TYPE)
            .map(|record| from_record(record).unwrap())
            .collect()
    }

    /// Whether a session ended the proper way: a tombstone that still says what it was.
    pub fn is_tombstone(&self, id: &str) -> bool {
        let records = self.records.lock();
        let record = &records[&(Session::TYPE.to_owned(), id.to_owned())];
        record.deleted_at.is_some() && from_record::<Session>(record).is_ok_and(|session| session.id == id)
    }

    pub fn set_down(&self, down: bool) {
        *self.down.lock() = down;
    }

    /// Somebody else writes `record` between the next read and the write that follows it.
    pub fn interfere(&self, record: Record) {
        *self.rival.lock() = Some(record);
    }

    /// A record as it is.
    pub fn read<M: RecordMessage>(&self, id: &str) -> M {
        let records = self.records.lock();
        from_record(&records[&(M::TYPE.to_owned(), id.to_owned())]).unwrap()
    }

    fn write(&self, mut record: Record) -> Record {
        let mut records = self.records.lock();
        let last = records.values().map(|record| record.version).max();
        record.version = last.unwrap_or(0) + 1;
        records.insert((record.r#type.clone(), record.id.clone()), record.clone());
        record
    }

    fn check(&self) -> Result<(), Error> {
        if *self.down.lock() {
            Err(Error::Unavailable("switched off".into()))
        } else {
            Ok(())
        }
    }
}

impl Databroker for MapBroker {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        ready(Ok(Versions::default())).boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        let found = self.check().and_then(|()| {
            let records = self.records.lock();
            let record = records.get(&(record_type.to_owned(), id.to_owned()));
            record
                .filter(|record| record.deleted_at.is_none())
                .cloned()
                .ok_or(Error::NotFound)
        });
        ready(found).boxed()
    }

    fn put(&self, new: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        let written = self.check().map(|()| PutReply {
            server_version: 7,
            records: new.into_iter().map(|record| self.write(record)).collect(),
        });
        ready(written).boxed()
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        if let Some(rival) = self.rival.lock().take() {
            self.write(rival);
        }
        let key = (record.r#type.clone(), record.id.clone());
        let live = self.check().map(|()| {
            let records = self.records.lock();
            let live = records.get(&key).filter(|live| live.deleted_at.is_none());
            live.map_or(0, |live| live.version)
        });
        match live {
            Ok(version) if version == record.version => async move {
                let mut reply = self.put(vec![record]).await?;
                Ok(reply.records.pop())
            }
            .boxed(),
            Ok(_) => ready(Ok(None)).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn set_options(&self, _: String, _: Options) -> BoxFuture<'_, Result<(), Error>> {
        ready(self.check()).boxed()
    }

    fn sync_latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        ready(Err(Error::Unavailable("not part of this test".into()))).boxed()
    }

    fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        ready(Err(Error::Unavailable("not part of this test".into()))).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        self.records.lock().clear();
        ready(Ok(Cleared { old: 7, new: 8 })).boxed()
    }
}
