//! What a write may touch, read before it, and what came of it: [`Tables`] in memory over what the database holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use pomerium_api::databroker::{Error, Options, Record};

use crate::apply::{Lease, Tables, behind, written_at};
use crate::store::{Key, Registered};

/// The live records of a type by age, as far as a write can need them.
#[derive(Default)]
pub(super) struct Ages {
    /// How many live records there are.
    pub(super) count: u64,
    /// The ids of those written longest ago, and when that was, by version.
    pub(super) oldest: BTreeMap<u64, (String, Timestamp)>,
}

/// A live record, as far as it can be read.
pub(super) enum Live {
    Whole(Record),
    Damaged { version: u64, why: Error },
}

impl Live {
    fn version(&self) -> u64 {
        match self {
            Self::Whole(record) => record.version,
            Self::Damaged { version, .. } => *version,
        }
    }
}

/// The part of the database that a write works on.
#[derive(Default)]
pub(super) struct Overlay {
    /// Live records as they are now; `None` is known not to be there.
    pub(super) live: HashMap<Key, Option<Live>>,
    pub(super) ages: HashMap<String, Ages>,
    pub(super) options: BTreeMap<String, Options>,
    pub(super) leases: HashMap<String, Lease>,
    /// Services that were reported, by kind and address.
    pub(super) services: BTreeMap<(i32, String), Timestamp>,
    /// Those to be written and to be removed.
    pub(super) services_written: Vec<Registered>,
    pub(super) services_gone: Vec<Registered>,
    /// How many changes are older than what is trimmed, and the last of them.
    pub(super) old_changes: (u64, Option<u64>),
    /// Changes made, in order.
    pub(super) changes: Vec<Record>,
    /// Records to be written in the end; `None` is to be deleted.
    pub(super) written: BTreeMap<Key, Option<Record>>,
    /// The types whose options were written.
    pub(super) options_written: BTreeSet<String>,
    pub(super) lease_written: bool,
    /// Leases that ended before this may go.
    pub(super) leases_ended: Option<Timestamp>,
    pub(super) cleared: bool,
    pub(super) changes_cleared: bool,
    /// The keys of the records that a part of a copy takes the place of.
    pub(super) between: Vec<Key>,
}

impl Overlay {
    fn write(&mut self, key: Key, record: Option<Record>) {
        self.live.insert(key.clone(), record.clone().map(Live::Whole));
        self.written.insert(key, record);
    }

    fn known(&self, record_type: &str, id: &str) -> Result<Option<&Live>, Error> {
        let known = self.live.get(&(record_type.to_owned(), id.to_owned()));
        known
            .map(Option::as_ref)
            .ok_or_else(|| Error::Unavailable(format!("record {id} was not read before the write")))
    }

    /// The live record of this key, if there is one, is not it any more.
    fn forget_age(&mut self, key: &Key) {
        if let Some(Some(live)) = self.live.get(key)
            && let Some(ages) = self.ages.get_mut(&key.0)
        {
            ages.oldest.remove(&live.version());
            ages.count = ages.count.saturating_sub(1);
        }
    }
}

impl Tables for Overlay {
    fn get(&mut self, record_type: &str, id: &str) -> Result<Option<Record>, Error> {
        match self.known(record_type, id)? {
            Some(Live::Whole(record)) => Ok(Some(record.clone())),
            Some(Live::Damaged { why, .. }) => Err(why.clone()),
            None => Ok(None),
        }
    }

    fn version(&mut self, record_type: &str, id: &str) -> Result<Option<u64>, Error> {
        Ok(self.known(record_type, id)?.map(Live::version))
    }

    fn written(&mut self, record_type: &str, id: &str) -> Result<Option<Timestamp>, Error> {
        let Some(version) = self.version(record_type, id)? else {
            return Ok(None);
        };
        let ages = self.ages.get(record_type);
        Ok(ages.and_then(|ages| Some(ages.oldest.get(&version)?.1)))
    }

    fn insert(&mut self, record: &Record) -> Result<(), Error> {
        let key = (record.r#type.clone(), record.id.clone());
        self.forget_age(&key);
        if let Some(ages) = self.ages.get_mut(&record.r#type) {
            ages.oldest
                .insert(record.version, (record.id.clone(), written_at(record)));
            ages.count += 1;
        }
        self.write(key, Some(record.clone()));
        Ok(())
    }

    fn remove(&mut self, record_type: &str, id: &str) -> Result<(), Error> {
        let key = (record_type.to_owned(), id.to_owned());
        self.forget_age(&key);
        self.write(key, None);
        Ok(())
    }

    fn append_change(&mut self, record: &Record) -> Result<(), Error> {
        self.changes.push(record.clone());
        Ok(())
    }

    fn trim_changes(&mut self, _: Timestamp, _: u64) -> Result<(u64, Option<u64>), Error> {
        Ok(self.old_changes)
    }

    fn count(&mut self, record_type: &str) -> Result<u64, Error> {
        Ok(self.ages.get(record_type).map_or(0, |ages| ages.count))
    }

    fn oldest(&mut self, record_type: &str, after: Option<u64>) -> Result<Option<(u64, String)>, Error> {
        let ages = self.ages.get(record_type);
        Ok(ages
            .and_then(|ages| ages.oldest.range(behind(after)).next())
            .map(|(version, (id, _))| (*version, id.clone())))
    }

    fn options(&mut self, record_type: &str) -> Result<Option<Options>, Error> {
        Ok(self.options.get(record_type).cloned())
    }

    fn types_with_options(&mut self) -> Result<Vec<String>, Error> {
        Ok(self.options.keys().cloned().collect())
    }

    fn set_options(&mut self, record_type: &str, options: Option<&Options>) -> Result<(), Error> {
        match options {
            Some(options) => self.options.insert(record_type.to_owned(), options.clone()),
            None => self.options.remove(record_type),
        };
        self.options_written.insert(record_type.to_owned());
        Ok(())
    }

    fn lease(&mut self, name: &str) -> Result<Option<Lease>, Error> {
        Ok(self.leases.get(name).cloned())
    }

    fn set_lease(&mut self, name: &str, lease: &Lease) -> Result<(), Error> {
        self.leases.insert(name.to_owned(), lease.clone());
        self.lease_written = true;
        Ok(())
    }

    fn forget_leases(&mut self, before: Timestamp) -> Result<(), Error> {
        self.leases_ended = Some(before);
        Ok(())
    }

    fn services(&mut self) -> Result<Vec<Registered>, Error> {
        let services = self.services.iter();
        Ok(services
            .map(|((kind, endpoint), expires)| Registered {
                kind: *kind,
                endpoint: endpoint.clone(),
                expires: *expires,
            })
            .collect())
    }

    fn set_service(&mut self, service: &Registered) -> Result<(), Error> {
        let key = (service.kind, service.endpoint.clone());
        self.services.insert(key, service.expires);
        // One call may name one service twice.
        self.services_written
            .retain(|other| (other.kind, &other.endpoint) != (service.kind, &service.endpoint));
        self.services_written.push(service.clone());
        Ok(())
    }

    fn remove_service(&mut self, service: &Registered) -> Result<(), Error> {
        self.services.remove(&(service.kind, service.endpoint.clone()));
        self.services_gone.push(service.clone());
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.cleared = true;
        Ok(())
    }

    fn clear_changes(&mut self) -> Result<(), Error> {
        self.changes_cleared = true;
        Ok(())
    }

    fn between(&mut self, _: Option<&Key>, _: Option<&Key>) -> Result<Vec<Key>, Error> {
        Ok(std::mem::take(&mut self.between))
    }
}
