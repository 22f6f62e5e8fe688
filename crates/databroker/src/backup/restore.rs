//! Checking a backup, and putting its records into an empty store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pomerium_api::databroker::{Record, Versions};
use pomerium_api::records::from_proto_time;
use zeroize::Zeroizing;

use super::format::{About, AllOptions, End, Kind, Reader, Several};
use super::write::count;
use super::{BackupError, Summary};
use crate::store::{Copy, Counters, Key, Standing, Store, Write};

/// A backup that was read from end to end and can be restored.
pub struct Checked {
    path: PathBuf,
    keys: Vec<Zeroizing<[u8; 32]>>,
    summary: Summary,
    begun: Versions,
}

/// Reads the file at `path` to its end: its checksum holds, every frame opens with one of `keys`, every record can be
/// read, nothing is missing.
///
/// # Errors
/// It is something else, cut short, damaged, of a later version, or sealed with another key.
pub fn check(path: &Path, keys: &[[u8; 32]]) -> Result<Checked, BackupError> {
    let keys: Vec<_> = keys.iter().copied().map(Zeroizing::new).collect();
    Reader::open(path)?.verify_sum()?;
    let mut reader = Reader::open(path)?;
    let mut live: BTreeSet<Key> = BTreeSet::new();
    let (mut about, mut counts) = (None, (0_u64, 0_u64));
    loop {
        let (kind, plain) = reader.frame(&keys)?;
        if about.is_none() != (kind == Kind::About) {
            return Err(reader.damaged("its frames are out of order"));
        }
        match kind {
            Kind::About => about = Some(reader.decode::<About>(&plain)?),
            Kind::Records => {
                let several: Several = reader.decode(&plain)?;
                counts.0 += several.records.len() as u64;
                live.extend(several.records.iter().map(key));
            }
            Kind::Changes => {
                let several: Several = reader.decode(&plain)?;
                counts.1 += several.records.len() as u64;
                for change in several.records {
                    match change.deleted_at {
                        Some(_) => live.remove(&key(&change)),
                        None => live.insert(key(&change)),
                    };
                }
            }
            Kind::Options => drop(reader.decode::<AllOptions>(&plain)?),
            Kind::End => {
                let end: End = reader.decode(&plain)?;
                if (end.records, end.changes) != counts {
                    return Err(reader.damaged("records are missing"));
                }
                let created = about
                    .and_then(|about| about.created)
                    .as_ref()
                    .and_then(from_proto_time);
                let (Some(created), Some(begun), Some(versions)) = (created, end.begun, end.versions) else {
                    return Err(reader.damaged("it does not say when it was made"));
                };
                return Ok(Checked {
                    path: path.to_owned(),
                    keys,
                    summary: Summary {
                        created,
                        versions,
                        records: count(live.into_iter()),
                        left_out: end.left_out.iter().map(key).collect(),
                    },
                    begun,
                });
            }
        }
    }
}

fn key(record: &Record) -> Key {
    (record.r#type.clone(), record.id.clone())
}

impl Checked {
    /// What is in it.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Puts its records into `store`, which must be without any: they keep times and versions, the database gets a new
    /// server version. Should this be interrupted, the store is unusable until it is done again.
    ///
    /// # Errors
    /// The store has records or fails, or the file changed since it was checked.
    pub async fn restore(&self, store: &impl Store, now: Timestamp) -> Result<(), BackupError> {
        let counters = store.counters().await?;
        // An interrupted restore may be done again.
        let types = store.types().await?.len();
        if types > 0 && counters.standing != Standing::Incomplete || counters.standing == Standing::Copy {
            return Err(BackupError::NotEmpty(types));
        }
        let write = |step| store.write(Write::Copy(step), now);
        let mut reader = Reader::open(&self.path)?;
        let mut after: Option<Key> = None;
        let mut ended = false;
        write(Copy::Begin).await?;
        loop {
            let (kind, plain) = reader.frame(&self.keys)?;
            if matches!(kind, Kind::Changes | Kind::Options | Kind::End) && !ended {
                // The parts are over.
                write(Copy::Part {
                    after: after.take(),
                    records: Vec::new(),
                    last: true,
                })
                .await?;
                let versions = Versions {
                    server_version: Counters::fresh().server_version,
                    ..self.begun
                };
                write(Copy::End { versions, term: 0 }).await?;
                ended = true;
            }
            match kind {
                Kind::About => {}
                Kind::Records => {
                    let records = reader.decode::<Several>(&plain)?.records;
                    let last = records.last().map(key);
                    write(Copy::Part {
                        after: after.take(),
                        records,
                        last: false,
                    })
                    .await?;
                    after = last;
                }
                Kind::Changes => drop(write(Copy::Changes(reader.decode::<Several>(&plain)?.records)).await?),
                Kind::Options => {
                    let types = reader.decode::<AllOptions>(&plain)?.types;
                    let types = types.into_iter().map(|of| (of.type_url, of.options)).collect();
                    write(Copy::Options(types)).await?;
                }
                Kind::End => break,
            }
        }
        store.write(Write::Promote, now).await?;
        Ok(())
    }
}
