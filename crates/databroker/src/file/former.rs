//! Files of formats 1 and 2: one database of the library `redb`. They are read once, into a store of today.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use pomerium_api::databroker::{Error, Record};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError,
};

use super::folder::Folder;
use super::op::{self, Blob};
use super::open::{OpenError, check_key};
use super::recover::Found;
use super::rewrite::Rewrite;
use super::staged::micros;
use super::unavailable;
use crate::seal::{Place, Sealer};
use crate::store::{Counters, Registered, Standing};

/// The file of former versions; today it keeps them from beginning an empty store in the folder.
pub(super) const NAME: &str = "databroker.redb";
/// What the file is called once it was read, if something in it could not be.
const ASIDE: &str = "databroker.redb.former";
/// What is written into it.
const MARKER: &str =
    "The records are in the files databroker.index and databroker.*.records beside this one.\n";

type LiveKey = (&'static str, &'static str);
type Change = (i64, &'static str, &'static [u8]);

/// Type and id → sealed record.
pub(super) const LIVE: TableDefinition<'_, LiveKey, &[u8]> = TableDefinition::new("live");
/// Version → time (µs since 1970), type, sealed record or tombstone.
pub(super) const LOG: TableDefinition<'_, u64, Change> = TableDefinition::new("log");
/// Type → options.
pub(super) const OPTIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("options");
/// Name → id and end (µs since 1970).
pub(super) const LEASES: TableDefinition<'_, &str, (&str, i64)> = TableDefinition::new("leases");
/// Kind and address of a service → end (µs since 1970).
pub(super) const SERVICES: TableDefinition<'_, (i32, &str), i64> = TableDefinition::new("services");
/// The counters, by name.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Whatever else the file says of itself, by name.
pub(super) const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

/// Memory for pages of the file.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// What is in the place of the file of former versions.
pub(super) enum Former {
    /// Nothing, or a file that was never finished.
    None,
    /// What this version puts there.
    Marker,
    /// Something else.
    Store,
}

/// Looks.
pub(super) fn look(folder: &Path) -> io::Result<Former> {
    let mut head = Vec::new();
    match File::open(folder.join(NAME)) {
        Ok(file) => file.take(MARKER.len() as u64 + 1).read_to_end(&mut head)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Former::None),
        Err(error) => return Err(error),
    };
    Ok(match head.as_slice() {
        head if head == MARKER.as_bytes() => Former::Marker,
        // A database whose very first creation was interrupted starts with zeros and holds nothing yet.
        head if head.iter().take(9).all(|byte| *byte == 0) => Former::None,
        _ => Former::Store,
    })
}

/// Puts the marker into its place.
pub(super) fn mark(folder: &dyn Folder) -> io::Result<()> {
    let unfinished = format!("{NAME}.new");
    let file = folder.create(&unfinished)?;
    file.write_at(0, MARKER.as_bytes())?;
    file.sync()?;
    folder.rename(&unfinished, NAME)?;
    folder.sync()
}

/// Keeps the file of a former version beside the store of today.
pub(super) fn put_aside(folder: &Path) -> io::Result<()> {
    tracing::warn!(
        file = %folder.join(ASIDE).display(),
        "the databroker file of a former version was put aside; delete it when nothing is missing"
    );
    fs::rename(folder.join(NAME), folder.join(ASIDE))
}

/// Reads the file of a former version into a store of today.
pub(super) fn upgrade(path: &Path, folder: &Arc<dyn Folder>, sealer: &Sealer) -> Result<Found, OpenError> {
    tracing::info!("the databroker file is brought to format 3; this can take a while");
    let damaged = |error: Error| OpenError::Damaged {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let database = open(path)?;
    let transaction = database
        .begin_read()
        .map_err(|error| damaged(unavailable(error)))?;
    check(path, &transaction, sealer)?;
    let mut reading = Reading {
        transaction,
        sealer,
        unreadable: 0,
    };
    let found = reading.read(folder).map_err(damaged)?;
    let unreadable = reading.unreadable;
    drop(reading);
    drop(database);
    if unreadable > 0 {
        put_aside(path).map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
    }
    tracing::info!(unreadable, "the databroker file was brought to format 3");
    Ok(found)
}

fn open(folder: &Path) -> Result<Database, OpenError> {
    let opened = redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create(folder.join(NAME));
    let path = folder.to_owned();
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        // What is no database at all also comes as a failure to read.
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            OpenError::Io { path, source }
        }
        error => OpenError::Damaged {
            path,
            detail: error.to_string(),
        },
    })
}

/// Whether the file has a format that is known here, and the key fits.
fn check(path: &Path, transaction: &ReadTransaction, sealer: &Sealer) -> Result<(), OpenError> {
    let damaged = |error: &dyn std::fmt::Display| OpenError::Damaged {
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let about = transaction.open_table(ABOUT).map_err(|error| damaged(&error))?;
    let read = |name| match about.get(name) {
        Ok(value) => Ok(value.map(|value| value.value().to_vec())),
        Err(error) => Err(damaged(&error)),
    };
    let format = read("format")?.unwrap_or_default();
    if format != b"1" && format != b"2" {
        return Err(OpenError::Format {
            path: path.to_owned(),
            found: String::from_utf8_lossy(&format).into_owned(),
        });
    }
    check_key(path, sealer, read("key_check")?.as_deref())
}

struct Reading<'s> {
    transaction: ReadTransaction,
    sealer: &'s Sealer,
    unreadable: u64,
}

/// A table that may not be there.
macro_rules! table {
    ($transaction:expr, $table:expr) => {
        match $transaction.open_table($table) {
            Ok(table) => Some(table),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(unavailable(error)),
        }
    };
}

impl Reading<'_> {
    fn read(&mut self, folder: &Arc<dyn Folder>) -> Result<Found, Error> {
        let mut rewrite = Rewrite::new(folder, 1, self.counters()?);
        self.changes(&mut rewrite)?;
        self.records(&mut rewrite)?;
        rewrite.ops(&self.small()?)?;
        rewrite.finish(self.sealer.key_check())
    }

    fn counters(&self) -> Result<Counters, Error> {
        let numbers = self.transaction.open_table(NUMBERS).map_err(unavailable)?;
        let find = |name| -> Result<Option<u64>, Error> {
            let number = numbers.get(name).map_err(unavailable)?;
            Ok(number.map(|number| number.value()))
        };
        let read = |name| find(name)?.ok_or_else(|| unavailable(format_args!("{name} is missing")));
        let (standing, term) = find("standing")?.map_or((Standing::Own, 0), Counters::of_mark);
        Ok(Counters {
            server_version: read("server_version")?,
            latest: read("latest")?,
            trimmed: read("trimmed")?,
            standing,
            term,
        })
    }

    /// The change log. What cannot be opened takes what is before with it, so that those who follow start over.
    fn changes(&mut self, rewrite: &mut Rewrite) -> Result<(), Error> {
        let Some(log) = table!(self.transaction, LOG) else {
            return Ok(());
        };
        for row in log.iter().map_err(unavailable)? {
            let (version, change) = row.map_err(unavailable)?;
            let version = version.value();
            match self.sealer.open(change.value().2, &Place::Change(version)) {
                Ok(record) => self.put(rewrite, op::CHANGE, &record)?,
                Err(error) => {
                    tracing::error!(%error, "a change that cannot be read is left out, with those before it");
                    self.unreadable += 1;
                    rewrite.trim(version)?;
                }
            }
        }
        Ok(())
    }

    fn records(&mut self, rewrite: &mut Rewrite) -> Result<(), Error> {
        let Some(live) = table!(self.transaction, LIVE) else {
            return Ok(());
        };
        for row in live.iter().map_err(unavailable)? {
            let (key, value) = row.map_err(unavailable)?;
            let (record_type, id) = key.value();
            match self.sealer.open(value.value(), &Place::Live { record_type, id }) {
                Ok(record) => self.put(rewrite, op::INSERT, &record)?,
                Err(error) => {
                    tracing::error!(%error, "a record that cannot be read is left out");
                    self.unreadable += 1;
                }
            }
        }
        Ok(())
    }

    fn put(&self, rewrite: &mut Rewrite, kind: u8, record: &Record) -> Result<(), Error> {
        let (record_type, id) = (record.r#type.as_str(), record.id.as_str());
        let version = record.version;
        let place = Place::Version {
            record_type,
            id,
            version,
        };
        rewrite.blob(
            kind,
            &Blob {
                version,
                micros: micros(record),
                record_type,
                id,
                value: &self.sealer.seal(record, &place),
                place: 0..0,
            },
        )
    }

    /// Options, leases and services.
    fn small(&self) -> Result<Vec<u8>, Error> {
        let mut ops = Vec::new();
        if let Some(options) = table!(self.transaction, OPTIONS) {
            for row in options.iter().map_err(unavailable)? {
                let (record_type, value) = row.map_err(unavailable)?;
                op::options(&mut ops, record_type.value(), Some(value.value()));
            }
        }
        if let Some(leases) = table!(self.transaction, LEASES) {
            for row in leases.iter().map_err(unavailable)? {
                let (name, value) = row.map_err(unavailable)?;
                let (id, expires) = value.value();
                op::lease(&mut ops, name.value(), id, super::small::time(expires));
            }
        }
        if let Some(services) = table!(self.transaction, SERVICES) {
            for row in services.iter().map_err(unavailable)? {
                let (key, expires) = row.map_err(unavailable)?;
                let (kind, endpoint) = key.value();
                let service = Registered {
                    kind,
                    endpoint: endpoint.to_owned(),
                    expires: super::small::time(expires.value()),
                };
                op::service(&mut ops, &service);
            }
        }
        Ok(ops)
    }
}
