//! What a commit changes, over the index as it is: read before it is durable by the writes of that commit alone. It is
//! collected as the frame that goes to the disk.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use jiff::Timestamp;
use pomerium_api::databroker::{Error, Options, Record};
use pomerium_api::records::from_proto_time;
use prost::Message;

use super::index::{Entry, Index, OfType, Spot};
use super::journal;
use super::op::{self, Blob};
use super::read;
use super::small::Small;
use super::touched::{Touched, Written};
use crate::apply::{Lease, Tables, behind, written_at};
use crate::seal::{Place, Sealer};
use crate::store::{Key, Registered};

/// An entry of the change log.
struct Appended {
    version: u64,
    micros: i64,
}

/// A record to be put to another place, as it is.
pub(super) struct Moved {
    pub(super) record_type: String,
    pub(super) id: String,
    pub(super) version: u64,
    /// When it was written (µs since 1970).
    pub(super) micros: i64,
    /// The place it has.
    pub(super) from: Spot,
    /// What is there.
    pub(super) value: Vec<u8>,
}

/// A commit that is being made.
pub(super) struct Staged<'i> {
    index: &'i Index,
    sealer: &'i Sealer,
    frame: Vec<u8>,
    touched: BTreeMap<String, Touched>,
    /// Whether what the index has of records, options and changes is gone.
    cleared: bool,
    /// The same of changes.
    changes_cleared: bool,
    /// Changes up to this version are gone.
    trimmed: u64,
    appended: Vec<Appended>,
    /// `None` as long as it is as before.
    small: Option<Small>,
    /// The record last put, which may go into the change log as well.
    last_put: Option<(u64, usize)>,
}

impl<'i> Staged<'i> {
    pub(super) fn new(index: &'i Index, sealer: &'i Sealer) -> Self {
        Self {
            index,
            sealer,
            frame: journal::blank(),
            touched: BTreeMap::new(),
            cleared: false,
            changes_cleared: false,
            trimmed: 0,
            appended: Vec::new(),
            small: None,
            last_put: None,
        }
    }

    /// The frame, to be appended to the journal.
    pub(super) fn into_frame(self) -> Vec<u8> {
        self.frame
    }

    /// Puts records to another place that are still where they were.
    pub(super) fn relocate(&mut self, all: &[Moved]) {
        for moved in all {
            let touched = self.touched.get(&moved.record_type);
            let untouched = touched.is_none_or(|touched| !touched.rows.contains_key(&moved.id));
            let here = self.index.find(&moved.record_type, &moved.id);
            if !self.cleared && untouched && here.is_some_and(|here| here.spot == moved.from) {
                op::blob(
                    &mut self.frame,
                    op::MOVE,
                    &Blob {
                        version: moved.version,
                        micros: moved.micros,
                        record_type: &moved.record_type,
                        id: &moved.id,
                        value: &moved.value,
                        place: 0..0,
                    },
                );
            }
        }
    }

    fn base(&self, record_type: &str) -> Option<&'i OfType> {
        if self.cleared {
            return None;
        }
        self.index.live.get(record_type)
    }

    /// The bytes of a live record. That they cannot be read keeps nobody from deleting it.
    fn blob(&self, entry: &Entry, record_type: &str, id: &str) -> Result<Vec<u8>, Error> {
        let file = self.index.file(entry.spot);
        file.and_then(|file| read::blob(&*file, entry.spot))
            .map_err(|error| {
                let text = error.to_string();
                self.sealer.missed(record_type, id, &text);
                Error::Damaged(text)
            })
    }

    /// When a live record was written, as is said beside its value.
    fn micros(&self, record_type: &str, id: &str) -> Option<i64> {
        let touched = self.touched.get(record_type);
        match touched.and_then(|touched| touched.rows.get(id)) {
            Some(written) => {
                let written = written.as_ref()?;
                let blob = &self.frame[written.place.clone()];
                op::micros(blob, (record_type, id), written.version)
            }
            None => {
                let entry = self.index.find(record_type, id).filter(|_| !self.cleared)?;
                let blob = self.blob(&entry, record_type, id).ok()?;
                op::micros(&blob, (record_type, id), entry.version)
            }
        }
    }

    fn small(&self) -> &Small {
        self.small.as_ref().unwrap_or(&self.index.small)
    }

    fn small_mut(&mut self) -> &mut Small {
        self.small.get_or_insert_with(|| self.index.small.clone())
    }

    /// Notes what became of a live record.
    fn touch(&mut self, record_type: &str, id: &str, written: Option<Written>) {
        let was_there = self.base(record_type).is_some_and(|base| base.rows.contains(id));
        if !self.touched.contains_key(record_type) {
            self.touched.insert(record_type.to_owned(), Touched::default());
        }
        if let Some(touched) = self.touched.get_mut(record_type) {
            touched.note(id, written, was_there);
        }
    }

    fn seal(&mut self, kind: u8, record: &Record) -> Range<usize> {
        let (record_type, id) = (record.r#type.as_str(), record.id.as_str());
        let version = record.version;
        let place = Place::Version {
            record_type,
            id,
            version,
        };
        let value = self.sealer.seal(record, &place);
        op::blob(
            &mut self.frame,
            kind,
            &Blob {
                version,
                micros: micros(record),
                record_type,
                id,
                value: &value,
                place: 0..0,
            },
        )
    }
}

/// When a record was written, in µs since 1970.
pub(super) fn micros(record: &Record) -> i64 {
    let modified_at = record.modified_at.as_ref().and_then(from_proto_time);
    modified_at.map_or(0, Timestamp::as_microsecond)
}

impl Tables for Staged<'_> {
    fn get(&mut self, record_type: &str, id: &str) -> Result<Option<Record>, Error> {
        let touched = self.touched.get(record_type);
        match touched.and_then(|touched| touched.rows.get(id)) {
            Some(None) => Ok(None),
            Some(Some(written)) => {
                let blob = &self.frame[written.place.clone()];
                read::open_live(blob, self.sealer, record_type, id, written.version).map(Some)
            }
            None if self.cleared => Ok(None),
            None => {
                let entry = self.index.find(record_type, id);
                entry
                    .map(|entry| {
                        let blob = self.blob(&entry, record_type, id)?;
                        read::open_live(&blob, self.sealer, record_type, id, entry.version)
                    })
                    .transpose()
            }
        }
    }

    fn version(&mut self, record_type: &str, id: &str) -> Result<Option<u64>, Error> {
        let touched = self.touched.get(record_type);
        Ok(match touched.and_then(|touched| touched.rows.get(id)) {
            Some(written) => written.as_ref().map(|written| written.version),
            None if self.cleared => None,
            None => self.index.find(record_type, id).map(|entry| entry.version),
        })
    }

    fn written(&mut self, record_type: &str, id: &str) -> Result<Option<Timestamp>, Error> {
        if let Some(micros) = self.micros(record_type, id) {
            return Ok(Timestamp::from_microsecond(micros).ok());
        }
        match self.get(record_type, id) {
            Err(Error::Damaged(_)) => Ok(None),
            record => Ok(record?.as_ref().map(written_at)),
        }
    }

    fn insert(&mut self, record: &Record) -> Result<(), Error> {
        let place = self.seal(op::INSERT, record);
        self.last_put = Some((record.version, place.start));
        let version = record.version;
        self.touch(&record.r#type, &record.id, Some(Written { version, place }));
        Ok(())
    }

    fn remove(&mut self, record_type: &str, id: &str) -> Result<(), Error> {
        self.last_put = None;
        op::remove(&mut self.frame, record_type, id);
        self.touch(record_type, id, None);
        Ok(())
    }

    fn append_change(&mut self, record: &Record) -> Result<(), Error> {
        match self.last_put.take() {
            // The record that was just inserted: one blob is both.
            Some((version, start)) if version == record.version => self.frame[start] = op::PUT,
            _ => {
                self.seal(op::CHANGE, record);
            }
        }
        self.appended.push(Appended {
            version: record.version,
            micros: micros(record),
        });
        Ok(())
    }

    fn trim_changes(&mut self, before: Timestamp, newest: u64) -> Result<(u64, Option<u64>), Error> {
        let before = before.as_microsecond();
        let base = (!self.cleared && !self.changes_cleared).then(|| self.index.changes_after(self.trimmed));
        let base = base.into_iter().flatten();
        let trimmed = self.trimmed;
        let appended = self.appended.iter().filter(|change| change.version > trimmed);
        let old = base
            .map(|change| (change.version, change.micros))
            .chain(appended.map(|change| (change.version, change.micros)))
            .take_while(|(version, micros)| *version < newest && *micros < before);
        let (count, last) = old.fold((0, None), |(count, _), (version, _)| (count + 1, Some(version)));
        if let Some(last) = last {
            op::trim(&mut self.frame, last);
            self.trimmed = last;
        }
        Ok((count, last))
    }

    fn count(&mut self, record_type: &str) -> Result<u64, Error> {
        let base = self.base(record_type).map_or(0, |base| base.rows.len() as u64);
        let touched = self.touched.get(record_type);
        Ok(base.saturating_add_signed(touched.map_or(0, |touched| touched.more)))
    }

    fn oldest(&mut self, record_type: &str, after: Option<u64>) -> Result<Option<(u64, String)>, Error> {
        let order = self.base(record_type).map(OfType::order);
        let Some(touched) = self.touched.get_mut(record_type) else {
            let first = order.and_then(|order| order.range(behind(after)).next());
            return Ok(first.map(|(version, id)| (*version, id.to_string())));
        };
        Ok(touched.oldest(order, after))
    }

    fn options(&mut self, record_type: &str) -> Result<Option<Options>, Error> {
        Ok(self.small().options.get(record_type).cloned())
    }

    fn types_with_options(&mut self) -> Result<Vec<String>, Error> {
        Ok(self.small().options.keys().cloned().collect())
    }

    fn set_options(&mut self, record_type: &str, options: Option<&Options>) -> Result<(), Error> {
        let value = options.map(Message::encode_to_vec);
        op::options(&mut self.frame, record_type, value.as_deref());
        let all = &mut self.small_mut().options;
        match options {
            Some(options) => all.insert(record_type.to_owned(), options.clone()),
            None => all.remove(record_type),
        };
        Ok(())
    }

    fn lease(&mut self, name: &str) -> Result<Option<Lease>, Error> {
        Ok(self.small().leases.get(name).cloned())
    }

    fn set_lease(&mut self, name: &str, lease: &Lease) -> Result<(), Error> {
        op::lease(&mut self.frame, name, &lease.id, lease.expires);
        self.small_mut().leases.insert(name.to_owned(), lease.clone());
        Ok(())
    }

    /// In memory, and so in the next image; what the journal has goes with it.
    fn forget_leases(&mut self, before: Timestamp) -> Result<(), Error> {
        self.small_mut().leases.retain(|_, lease| lease.expires >= before);
        Ok(())
    }

    fn services(&mut self) -> Result<Vec<Registered>, Error> {
        Ok(self.small().registered(Timestamp::MIN))
    }

    fn set_service(&mut self, service: &Registered) -> Result<(), Error> {
        op::service(&mut self.frame, service);
        let key = (service.kind, service.endpoint.clone());
        self.small_mut().services.insert(key, service.expires);
        Ok(())
    }

    fn remove_service(&mut self, service: &Registered) -> Result<(), Error> {
        op::service_gone(&mut self.frame, service);
        let key = (service.kind, service.endpoint.clone());
        self.small_mut().services.remove(&key);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Error> {
        op::clear(&mut self.frame);
        self.last_put = None;
        self.cleared = true;
        self.touched.clear();
        self.appended.clear();
        self.small_mut().options.clear();
        Ok(())
    }

    fn clear_changes(&mut self) -> Result<(), Error> {
        op::clear_changes(&mut self.frame);
        self.last_put = None;
        self.changes_cleared = true;
        self.appended.clear();
        Ok(())
    }

    fn between(&mut self, after: Option<&Key>, to: Option<&Key>) -> Result<Vec<Key>, Error> {
        let within = |record_type: &str, id: &str| {
            let key = (record_type, id);
            after.is_none_or(|(after_type, after_id)| key > (after_type.as_str(), after_id.as_str()))
                && to.is_none_or(|(to_type, to_id)| key <= (to_type.as_str(), to_id.as_str()))
        };
        let first = after.map_or(Bound::Unbounded, |(record_type, _)| {
            Bound::Included(record_type.as_str())
        });
        let last = to.map_or(Bound::Unbounded, |(record_type, _)| {
            Bound::Included(record_type.as_str())
        });
        let mut keys = Vec::new();
        if !self.cleared {
            for (record_type, of_type) in self.index.live.range::<str, _>((first, last)) {
                let touched = self.touched.get(&**record_type);
                let from = after
                    .filter(|(after_type, _)| **after_type == **record_type)
                    .map(|(_, id)| id.as_str());
                let ids = of_type.rows.after(from).map(|(id, _)| id);
                keys.extend(
                    ids.take_while(|id| within(record_type, id))
                        .filter(|id| touched.is_none_or(|touched| !touched.rows.contains_key(*id)))
                        .map(|id| (record_type.to_string(), id.to_owned())),
                );
            }
        }
        for (record_type, touched) in &self.touched {
            let there = touched.rows.iter().filter(|(_, written)| written.is_some());
            let ids = there.filter(|(id, _)| within(record_type, id));
            keys.extend(ids.map(|(id, _)| (record_type.clone(), id.clone())));
        }
        keys.sort_unstable();
        Ok(keys)
    }
}
