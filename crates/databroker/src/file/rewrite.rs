//! A store written anew: into segments of a line of their own, which become the store when the index that names them is in
//! place, whole or not at all.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use pomerium_api::databroker::Error;

use super::folder::Folder;
use super::image::{self, About};
use super::index::{Index, Segment};
use super::journal::{self, Begun, Journal};
use super::op::{self, Blob};
use super::open::OpenError;
use super::recover::Found;
use super::segment::{self, HEAD};
use super::{read, unavailable};
use crate::seal::{Place, Sealer};
use crate::store::Counters;

/// Bytes of a frame.
const FRAME: usize = 1024 * 1024;

/// A name for a line of segments.
pub(super) fn line() -> u64 {
    u64::from_be_bytes(pomerium_crypto::random::bytes())
}

/// A store that is being written.
pub(super) struct Rewrite {
    folder: Arc<dyn Folder>,
    journal: Journal,
    pub(super) index: Index,
    counters: Counters,
    frame: Vec<u8>,
}

impl Rewrite {
    /// Nothing yet; segments are numbered from `first` on.
    pub(super) fn new(folder: &Arc<dyn Folder>, first: u32, counters: Counters) -> Self {
        Self {
            journal: Journal::new(Arc::clone(folder), line(), first),
            folder: Arc::clone(folder),
            index: Index::new(counters),
            counters,
            frame: journal::blank(),
        }
    }

    pub(super) fn blob(&mut self, kind: u8, blob: &Blob<'_>) -> Result<(), Error> {
        op::blob(&mut self.frame, kind, blob);
        self.write_if_long()
    }

    /// Operations without blobs.
    pub(super) fn ops(&mut self, ops: &[u8]) -> Result<(), Error> {
        self.frame.extend_from_slice(ops);
        self.write_if_long()
    }

    /// The change log begins behind this version.
    pub(super) fn trim(&mut self, version: u64) -> Result<(), Error> {
        self.counters.trimmed = version;
        op::trim(&mut self.frame, version);
        self.write_out()
    }

    fn write_if_long(&mut self) -> Result<(), Error> {
        if self.frame.len() < FRAME {
            return Ok(());
        }
        self.write_out()
    }

    fn write_out(&mut self) -> Result<(), Error> {
        let mut frame = std::mem::replace(&mut self.frame, journal::blank());
        if let Some(begun) = self.journal.make_room().map_err(unavailable)? {
            self.note(begun);
        }
        let appended = self
            .journal
            .append(&mut frame, self.counters, false)
            .map_err(unavailable)?;
        self.index
            .carry_out(&frame[appended.contents], appended.segment, appended.at)
            .map_err(unavailable)?;
        if let Some(segment) = self.index.segments.get_mut(&appended.segment) {
            segment.end = appended.end;
        }
        Ok(())
    }

    fn note(&mut self, begun: Begun) {
        let segment = Segment {
            file: begun.file,
            live: 0,
            end: HEAD,
        };
        self.index.segments.insert(begun.number, segment);
    }

    /// What was written is the store from here on.
    pub(super) fn finish(mut self, key_check: Option<Vec<u8>>) -> Result<Found, Error> {
        self.write_out()?;
        let begun = self.journal.begin().map_err(unavailable)?;
        let about = About {
            key_check,
            line: self.journal.line(),
            first: begun.number,
        };
        self.note(begun);
        let index = RwLock::new(self.index);
        image::write(&*self.folder, &about, &index, &|| true).map_err(unavailable)?;
        Ok(Found {
            about,
            index: index.into_inner(),
            journal: self.journal,
        })
    }
}

/// Seals everything with the first key.
pub(super) fn seal_anew(
    folder: &Arc<dyn Folder>,
    path: &Path,
    found: &Found,
    sealer: &Sealer,
) -> Result<Found, OpenError> {
    tracing::info!("the databroker file is sealed with the shared secret of today; this can take a while");
    let former: Vec<u32> = found.index.segments.keys().copied().collect();
    let renewed = renew(folder, &found.index, sealer).map_err(|error| OpenError::Damaged {
        path: path.to_owned(),
        detail: error.to_string(),
    })?;
    for number in former {
        folder
            .remove(&segment::name(number))
            .map_err(|source| OpenError::Io {
                path: path.to_owned(),
                source,
            })?;
    }
    tracing::info!(
        "the databroker file is sealed anew; the former shared secret is not needed for it any more"
    );
    Ok(renewed)
}

fn renew(folder: &Arc<dyn Folder>, index: &Index, sealer: &Sealer) -> Result<Found, Error> {
    let last = index.segments.last_key_value().map_or(0, |(number, _)| *number);
    let mut rewrite = Rewrite::new(folder, last + 1, index.counters);
    for change in &index.log {
        let bytes = read::blob(&*index.file(change.spot)?, change.spot)?;
        let Some(blob) = op::whole_blob(&bytes) else {
            let damaged = Blob {
                version: change.version,
                micros: change.micros,
                record_type: &change.record_type,
                id: "",
                value: &bytes,
                place: 0..0,
            };
            rewrite.blob(op::CHANGE, &damaged)?;
            continue;
        };
        let here = index.find(blob.record_type, blob.id);
        let is_live = here.is_some_and(|here| here.spot == change.spot);
        let kind = if is_live { op::PUT } else { op::CHANGE };
        put_renewed(&mut rewrite, kind, &blob, sealer)?;
    }
    for (record_type, of_type) in &index.live {
        for (id, entry) in of_type.rows.after(None) {
            // It went with its change.
            if index.is_change(entry) {
                continue;
            }
            let bytes = read::blob(&*index.file(entry.spot)?, entry.spot)?;
            let damaged = Blob {
                version: entry.version,
                micros: 0,
                record_type,
                id,
                value: &bytes,
                place: 0..0,
            };
            let blob = op::whole_blob(&bytes).unwrap_or(damaged);
            put_renewed(&mut rewrite, op::INSERT, &blob, sealer)?;
        }
    }
    let mut small = Vec::new();
    index.small.write(&mut small);
    rewrite.ops(&small)?;
    rewrite.finish(sealer.key_check())
}

/// What cannot be opened is left as it is.
fn put_renewed(rewrite: &mut Rewrite, kind: u8, blob: &Blob<'_>, sealer: &Sealer) -> Result<(), Error> {
    let place = Place::Version {
        record_type: blob.record_type,
        id: blob.id,
        version: blob.version,
    };
    let renewed = sealer.renewed(blob.value, &place);
    rewrite.blob(
        kind,
        &Blob {
            value: renewed.as_deref().unwrap_or(blob.value),
            version: blob.version,
            micros: blob.micros,
            record_type: blob.record_type,
            id: blob.id,
            place: 0..0,
        },
    )
}
