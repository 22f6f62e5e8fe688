//! Reading: places are looked up in the index, then the blobs are read and opened without holding it.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use parking_lot::RwLock;
use pomerium_api::databroker::{Error, Record, Versions};

use super::folder::Handle;
use super::index::{Entry, Index, Spot};
use super::op;
use super::unavailable;
use crate::limits;
use crate::seal::{Place, Sealer};
use crate::store::{Changes, Inventory, Records};

/// How many places are looked up in one go.
const CHUNK: usize = 256;

/// The bytes of a blob.
pub(super) fn blob(file: &dyn Handle, spot: Spot) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; spot.length as usize];
    file.read_at(u64::from(spot.at), &mut bytes)
        .map_err(unavailable)?;
    Ok(bytes)
}

/// The record in a blob, if it is the one that is wanted.
pub(super) fn open_live(
    bytes: &[u8],
    sealer: &Sealer,
    record_type: &str,
    id: &str,
    version: u64,
) -> Result<Record, Error> {
    let place = Place::Version {
        record_type,
        id,
        version,
    };
    let blob = op::whole_blob(bytes).ok_or_else(|| sealer.damaged(&place))?;
    sealer.open(blob.value, &place)
}

/// The record in a blob of the change log.
fn open_change(bytes: &[u8], sealer: &Sealer, version: u64) -> Result<Record, Error> {
    let blob = op::whole_blob(bytes).filter(|blob| blob.version == version);
    let blob = blob.ok_or_else(|| sealer.damaged(&Place::Change(version)))?;
    let place = Place::Version {
        record_type: blob.record_type,
        id: blob.id,
        version,
    };
    sealer.open(blob.value, &place)
}

/// The live record.
pub(super) fn get(
    index: &RwLock<Index>,
    sealer: &Sealer,
    record_type: &str,
    id: &str,
) -> Result<Option<Record>, Error> {
    let (entry, file) = {
        let index = index.read();
        let Some(entry) = index.find(record_type, id) else {
            return Ok(None);
        };
        (entry, index.file(entry.spot)?)
    };
    let bytes = blob(&*file, entry.spot)?;
    open_live(&bytes, sealer, record_type, id, entry.version).map(Some)
}

/// Changes after `from`, at most `limit` entries looked at.
pub(super) fn changes(
    index: &RwLock<Index>,
    sealer: &Sealer,
    record_type: &str,
    from: Versions,
    limit: usize,
) -> Result<Changes, Error> {
    let mut seen = from.latest_record_version;
    let mut found = Vec::new();
    let mut bytes = 0;
    {
        let index = index.read();
        index.counters.check(from)?;
        for change in index.changes_after(seen).take(limit) {
            let wanted = record_type.is_empty() || *change.record_type == *record_type;
            if wanted {
                bytes += change.spot.length as usize;
                if bytes > limits::READ_AT_ONCE && !found.is_empty() {
                    break;
                }
            }
            seen = change.version;
            if wanted {
                found.push((change.version, change.spot, index.file(change.spot)?));
            }
        }
    }
    // Not to be skipped: a reader that misses a change is wrong for good.
    let records = found
        .into_iter()
        .map(|(version, spot, file)| open_change(&blob(&*file, spot)?, sealer, version))
        .collect::<Result<_, _>>()?;
    Ok(Changes { records, seen })
}

/// A live record and where it is.
pub(super) struct Row {
    pub(super) record_type: Arc<str>,
    pub(super) id: Box<str>,
    pub(super) entry: Entry,
    file: Arc<dyn Handle>,
}

impl Row {
    /// What is there, sealed.
    pub(super) fn blob(&self) -> Result<Vec<u8>, Error> {
        blob(&*self.file, self.entry.spot)
    }

    fn open(&self, sealer: &Sealer) -> Result<Record, Error> {
        open_live(
            &self.blob()?,
            sealer,
            &self.record_type,
            &self.id,
            self.entry.version,
        )
    }
}

/// Goes through the live records in order of type and id, a few at a time, while others write.
pub(super) struct Walk {
    /// Empty for every type.
    record_type: String,
    after: Option<(Arc<str>, Box<str>)>,
    at_most: usize,
}

impl Walk {
    pub(super) fn new(record_type: &str, at_most: usize) -> Self {
        Self {
            record_type: record_type.to_owned(),
            after: None,
            at_most,
        }
    }

    /// The next few; none at the end.
    pub(super) fn next(&mut self, index: &RwLock<Index>) -> Result<Vec<Row>, Error> {
        let index = index.read();
        let mut rows = Vec::new();
        let first = match &self.after {
            Some((record_type, _)) => Bound::Included(&**record_type),
            None => Bound::Unbounded,
        };
        for (record_type, of_type) in index.live.range::<str, _>((first, Bound::Unbounded)) {
            if !self.record_type.is_empty() && *self.record_type != **record_type {
                continue;
            }
            let after = self.after.as_ref().filter(|(after, _)| after == record_type);
            let from = after.map(|(_, id)| &**id);
            let left = self.at_most - rows.len();
            for (id, entry) in of_type.rows.after(from).take(left) {
                rows.push(Row {
                    record_type: Arc::clone(record_type),
                    id: id.into(),
                    entry: *entry,
                    file: index.file(entry.spot)?,
                });
            }
            if rows.len() == self.at_most {
                break;
            }
        }
        if let Some(last) = rows.last() {
            self.after = Some((Arc::clone(&last.record_type), last.id.clone()));
        }
        Ok(rows)
    }
}

/// Every live record. One that cannot be read must not keep all others from being read.
pub(super) fn latest(index: Arc<RwLock<Index>>, sealer: Arc<Sealer>, record_type: &str) -> Records {
    let walk = Walk::new(record_type, CHUNK);
    let chunks = stream::unfold(Some(walk), move |walk| {
        let mut walk = walk;
        let chunk = walk.as_mut().map(|walk| walk.next(&index));
        async move {
            match chunk? {
                Ok(rows) if rows.is_empty() => None,
                Ok(rows) => Some((Ok(rows), walk)),
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    // One is opened when it is wanted, not before: they may be large.
    let records = chunks.map(move |chunk| {
        let (rows, error) = match chunk {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        let sealer = Arc::clone(&sealer);
        let records = rows
            .into_iter()
            .filter_map(move |row| readable(&row, &sealer).map(Ok));
        stream::iter(records.chain(error))
    });
    records.flatten().boxed()
}

fn readable(row: &Row, sealer: &Sealer) -> Option<Record> {
    match row.open(sealer) {
        Ok(record) => Some(record),
        Err(error) => {
            sealer.missed(&row.record_type, &row.id, &error.to_string());
            None
        }
    }
}

/// Opens everything.
pub(super) fn inspect(index: &RwLock<Index>, sealer: &Sealer) -> Result<Inventory, Error> {
    let mut inventory = Inventory::default();
    let mut walk = Walk::new("", CHUNK);
    loop {
        let rows = walk.next(index)?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            match row.open(sealer) {
                Ok(_) => *inventory.records.entry(row.record_type.to_string()).or_default() += 1,
                Err(error) => inventory.unreadable.push(error.to_string()),
            }
        }
    }
    let mut last = 0;
    loop {
        let chunk: Vec<_> = {
            let index = index.read();
            let changes = index.changes_after(last).take(CHUNK);
            changes
                .map(|change| Ok((change.version, change.spot, index.file(change.spot)?)))
                .collect::<Result<_, Error>>()?
        };
        let Some((version, ..)) = chunk.last() else { break };
        last = *version;
        for (version, spot, file) in chunk {
            match blob(&*file, spot).and_then(|bytes| open_change(&bytes, sealer, version)) {
                Ok(_) => inventory.changes += 1,
                Err(error) => inventory.unreadable.push(error.to_string()),
            }
        }
    }
    Ok(inventory)
}

/// Whether the change log starts with an entry older than `before`.
pub(super) fn has_older(index: &RwLock<Index>, before: Timestamp) -> bool {
    let index = index.read();
    let first = index.log.front();
    first.is_some_and(|change| change.micros < before.as_microsecond())
}
