//! Records whose data is a free object (`google.protobuf.Struct`): the directory, and whatever else is
//! written for policies to look at. Decoded once, lock-free to read, written only under the lock of
//! [`super::SyncedRecords`].

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ipnet::IpNet;
use prost::Message as _;
use serde_json::Value;

use super::networks::{self, Networks};
use super::table::is_older;
use crate::databroker::{Error, Record, Versions};
use crate::json;
use crate::records::{DIRECTORY_GROUP, DIRECTORY_USER, STRUCT};

/// How many bytes of encoded data are kept of all such records together.
const MOST_BYTES: usize = 256 << 20;

/// A free object as last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct StructEntry {
    /// The record's id.
    pub id: String,
    /// The record's version; grows with each change of the record.
    pub version: u64,
    /// Identity of the database the record was read from.
    pub server_version: u64,
    /// The object.
    pub data: Arc<Value>,
    /// The network it is about (`$index.cidr`).
    pub(super) network: Option<IpNet>,
    size: usize,
}

impl StructEntry {
    /// Joins an object of `size` encoded bytes with its place: server version and record version.
    pub fn new(id: &str, (server_version, version): (u64, u64), data: Value, size: usize) -> Self {
        let network = data
            .pointer("/$index/cidr")
            .and_then(Value::as_str)
            .and_then(networks::parse);
        Self {
            id: id.to_owned(),
            version,
            server_version,
            data: Arc::new(data),
            network,
            size,
        }
    }

    /// The object in a live record of the database `server_version`; none when the record is gone or holds something
    /// else.
    ///
    /// Errors with [`Error::Invalid`] when it cannot be decoded.
    pub fn of_record(server_version: u64, record: &Record) -> Result<Option<Self>, Error> {
        let data = record
            .data
            .as_ref()
            .filter(|data| record.deleted_at.is_none() && data.type_url == STRUCT);
        let Some(data) = data else { return Ok(None) };
        let fields = prost_types::Struct::decode(data.value.as_slice())
            .map_err(|error| Error::Invalid(format!("record {}: {error}", record.id)))?;
        let place = (server_version, record.version);
        Ok(Some(Self::new(
            &record.id,
            place,
            json::from_struct(&fields),
            data.value.len(),
        )))
    }

    fn at(&self) -> Versions {
        Versions {
            server_version: self.server_version,
            latest_record_version: self.version,
        }
    }
}

type Map<V> = papaya::HashMap<String, V, foldhash::fast::RandomState>;

fn map<V>() -> Map<V> {
    papaya::HashMap::with_hasher(foldhash::fast::RandomState::default())
}

/// The records of one type.
pub(super) struct Kind {
    records: Map<Arc<StructEntry>>,
    networks: Networks,
    changes: AtomicU64,
}

impl Kind {
    fn new() -> Self {
        Self {
            records: map(),
            networks: Networks::new(),
            changes: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.records.pin().get(id).cloned()
    }

    /// A number that grows with each change, after it.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Puts `new` in the place of what was known, which it returns.
    fn replace(&self, id: &str, new: Option<&Arc<StructEntry>>) -> Option<Arc<StructEntry>> {
        let records = self.records.pin();
        let old = match new {
            Some(new) => records.insert(id.to_owned(), Arc::clone(new)),
            None => records.remove(id),
        };
        self.networks.replace(old.map(Arc::as_ref), new);
        self.changes.fetch_add(1, Ordering::Release);
        old.cloned()
    }
}

/// Free objects by type and id.
pub(super) struct Structs {
    kinds: Map<Arc<Kind>>,
    /// Two of them, which are read for each request.
    pub(super) directory_users: Arc<Kind>,
    pub(super) directory_groups: Arc<Kind>,
    bytes: AtomicUsize,
    most_bytes: usize,
    /// Something did not fit.
    incomplete: AtomicBool,
    /// Something did not fit since the reading of everything began.
    lacking: AtomicBool,
}

impl Structs {
    pub(super) fn new() -> Self {
        Self::with_room(MOST_BYTES)
    }

    fn with_room(most_bytes: usize) -> Self {
        let (kinds, users, groups) = (map(), Arc::new(Kind::new()), Arc::new(Kind::new()));
        kinds.pin().insert(DIRECTORY_USER.to_owned(), Arc::clone(&users));
        kinds
            .pin()
            .insert(DIRECTORY_GROUP.to_owned(), Arc::clone(&groups));
        Self {
            kinds,
            directory_users: users,
            directory_groups: groups,
            bytes: AtomicUsize::new(0),
            most_bytes,
            incomplete: AtomicBool::new(false),
            lacking: AtomicBool::new(false),
        }
    }

    pub(super) fn get(&self, kind: &str, id: &str) -> Option<Arc<StructEntry>> {
        self.kinds.pin().get(kind)?.get(id)
    }

    pub(super) fn find(&self, kind: &str, address: std::net::IpAddr) -> Option<Arc<StructEntry>> {
        self.kinds.pin().get(kind)?.networks.find(address)
    }

    pub(super) fn has_networks(&self, kind: &str) -> bool {
        self.kinds.pin().get(kind).is_some_and(|kind| kind.networks.any())
    }

    pub(super) fn incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Acquire)
    }

    /// Takes over a live record or a tombstone; data of another kind than a free object is as good as none.
    /// An older version than the one known is left out. Whether anything is there now, or was.
    pub(super) fn apply(&self, server_version: u64, record: &Record) -> Result<bool, Error> {
        let at = Versions {
            server_version,
            latest_record_version: record.version,
        };
        let known = self.get(&record.r#type, &record.id);
        if known.as_ref().is_some_and(|known| is_older(at, known.at())) {
            return Ok(false);
        }
        let read = StructEntry::of_record(server_version, record);
        self.put(record, read.as_ref().ok().cloned().flatten().map(Arc::new));
        Ok(read?.is_some() || known.is_some())
    }

    fn put(&self, record: &Record, new: Option<Arc<StructEntry>>) {
        let kinds = self.kinds.pin();
        let kind = match (kinds.get(&record.r#type), &new) {
            (Some(kind), _) => Arc::clone(kind),
            (None, None) => return,
            (None, Some(_)) => {
                let kind = Arc::new(Kind::new());
                kinds.insert(record.r#type.clone(), Arc::clone(&kind));
                kind
            }
        };
        let fits = |new: &Arc<StructEntry>| {
            let freed = self.get(&record.r#type, &record.id).map_or(0, |old| old.size);
            let fits = self.bytes.load(Ordering::Relaxed) - freed + new.size <= self.most_bytes;
            if !fits {
                self.no_room(record);
            }
            fits
        };
        let new = new.filter(fits);
        let old = kind.replace(&record.id, new.as_ref());
        let size = |entry: Option<&Arc<StructEntry>>| entry.map_or(0, |entry| entry.size);
        self.bytes.fetch_add(size(new.as_ref()), Ordering::Relaxed);
        self.bytes.fetch_sub(size(old.as_ref()), Ordering::Relaxed);
    }

    fn no_room(&self, record: &Record) {
        self.lacking.store(true, Ordering::Release);
        if !self.incomplete.swap(true, Ordering::AcqRel) {
            tracing::error!(
                record_type = record.r#type,
                "the records for policies (directory, outside data) exceed {} MiB: some are left out, and what depends \
                 on a record that is not found is refused until there are fewer",
                self.most_bytes >> 20
            );
        }
    }

    /// Keeps what a complete snapshot taken at `at` named, and what is newer than it.
    pub(super) fn keep_only(&self, seen: &HashMap<String, HashSet<String>>, at: Versions) {
        for (name, kind) in &self.kinds.pin() {
            let seen = seen.get(name);
            let named = |id: &String| seen.is_some_and(|seen| seen.contains(id));
            let records = kind.records.pin();
            let gone: Vec<Arc<StructEntry>> = records
                .iter()
                .filter(|(id, entry)| !named(id) && !is_older(at, entry.at()))
                .map(|(_, entry)| Arc::clone(entry))
                .collect();
            for entry in gone {
                kind.replace(&entry.id, None);
                self.bytes.fetch_sub(entry.size, Ordering::Relaxed);
            }
        }
        self.incomplete
            .store(self.lacking.load(Ordering::Acquire), Ordering::Release);
    }

    /// Everything is about to be read again, until [`Self::keep_only`].
    pub(super) fn begin(&self) {
        self.lacking.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::records::{struct_record, struct_tombstone};

    const KIND: &str = "example.com/Thing";

    fn record(id: &str, version: u64, data: &Value) -> Record {
        Record {
            version,
            ..struct_record(KIND, id, data)
        }
    }

    fn data(structs: &Structs, id: &str) -> Option<Value> {
        structs.get(KIND, id).map(|entry| (*entry.data).clone())
    }

    #[test]
    fn objects_come_change_and_go() {
        let structs = Structs::new();
        let first = json!({"id": "a", "n": 3, "$index": {"cidr": "10.0.0.0/8"}});
        structs.apply(1, &record("a", 1, &first)).unwrap();
        assert_eq!(data(&structs, "a"), Some(first));
        let before = structs.kinds.pin().get(KIND).unwrap().changes();
        structs.apply(1, &record("a", 3, &json!({"n": 4}))).unwrap();
        assert!(structs.kinds.pin().get(KIND).unwrap().changes() > before);
        structs.apply(1, &record("a", 2, &json!({"n": "late"}))).unwrap();
        assert_eq!(data(&structs, "a"), Some(json!({"n": 4})));
        assert!(
            structs.find(KIND, [10, 0, 0, 1].into()).is_none(),
            "it is about no network any more"
        );
        let gone = Record {
            version: 4,
            ..struct_tombstone(KIND, "a", jiff::Timestamp::UNIX_EPOCH)
        };
        structs.apply(1, &gone).unwrap();
        assert_eq!(data(&structs, "a"), None);
        assert_eq!(structs.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_no_object_any_more_is_gone() {
        let structs = Structs::new();
        structs.apply(1, &record("a", 1, &json!({"n": 1}))).unwrap();
        let mut other = record("a", 2, &json!({}));
        other.data.as_mut().unwrap().type_url = "type.googleapis.com/google.protobuf.Empty".into();
        assert!(structs.apply(1, &other).unwrap(), "what was there is gone");
        assert!(!structs.apply(1, &other).unwrap(), "and nothing came");
        assert_eq!(data(&structs, "a"), None);
        structs.apply(1, &record("a", 3, &json!({"n": 1}))).unwrap();
        let mut broken = record("a", 4, &json!({}));
        broken.data.as_mut().unwrap().value = vec![0xff];
        assert!(structs.apply(1, &broken).is_err());
        assert_eq!(
            data(&structs, "a"),
            None,
            "what it says now is not what was known"
        );
    }

    #[test]
    fn a_full_house_says_so() {
        let structs = Structs::with_room(64);
        structs.apply(1, &record("a", 1, &json!({"n": 1}))).unwrap();
        assert!(!structs.incomplete());
        structs
            .apply(1, &record("b", 2, &json!({"text": "x".repeat(100)})))
            .unwrap();
        assert!(structs.incomplete() && data(&structs, "b").is_none() && data(&structs, "a").is_some());
        structs
            .apply(1, &record("a", 3, &json!({"text": "x".repeat(100)})))
            .unwrap();
        assert_eq!(
            data(&structs, "a"),
            None,
            "what it said before is not what it says now"
        );
    }

    #[test]
    fn a_new_snapshot_drops_what_it_does_not_name() {
        let structs = Structs::new();
        let network = json!({"$index": {"cidr": "192.0.2.0/24"}});
        for (id, version) in [("a", 1), ("b", 2), ("newer", 9)] {
            structs.apply(1, &record(id, version, &network)).unwrap();
        }
        let seen = HashMap::from([(KIND.to_owned(), HashSet::from(["b".to_owned()]))]);
        let at = Versions {
            server_version: 1,
            latest_record_version: 5,
        };
        structs.keep_only(&seen, at);
        assert_eq!(data(&structs, "a"), None);
        assert_eq!(structs.find(KIND, [192, 0, 2, 1].into()).unwrap().id, "b");
        assert!(data(&structs, "newer").is_some());
        structs.keep_only(
            &HashMap::new(),
            Versions {
                server_version: 2,
                latest_record_version: 0,
            },
        );
        assert!(
            structs.find(KIND, [192, 0, 2, 1].into()).is_none(),
            "another database"
        );
    }
}
