//! How large records and names may be: the same over every store, so that none of them meets what it cannot keep.

use pomerium_api::databroker::{Error, Record};
use prost::Message;

/// The largest record, in bytes. With version and times, and as part of an answer, it is within the 4 MiB that gRPC clients
/// take unless they are told otherwise.
const LARGEST_RECORD: usize = 4 * 1024 * 1024 - 4 * 1024;
/// The longest id of a record, in bytes: that of a device's key, in base58, is as long as 1023 bytes make it. With a type
/// before it, it is not longer than what an index of PostgreSQL holds (2704 bytes).
const LONGEST_ID: usize = 1536;
/// The longest of all other names.
const LONGEST_NAME: usize = 1024;

/// How many bytes of sealed records are read in one go, but for the first, which is read however large it is: what a
/// reader takes stays within bounds when all records are as large as they may be.
pub(crate) const READ_AT_ONCE: usize = 8 * 1024 * 1024;

/// Errors with [`Error::Invalid`] when a record is too large, or not to be found under its names.
pub(crate) fn record(record: &Record) -> Result<(), Error> {
    key(&record.r#type, &record.id)?;
    size(record)
}

/// Errors with [`Error::Invalid`] when a record is too large.
pub(crate) fn size(record: &Record) -> Result<(), Error> {
    let size = record.encoded_len();
    if size > LARGEST_RECORD {
        let Record { r#type, id, .. } = record;
        return Err(Error::Invalid(format!(
            "{} {id} has {size} bytes; {LARGEST_RECORD} are allowed",
            r#type
        )));
    }
    Ok(())
}

/// Errors with [`Error::Invalid`] when no record can have this type and id.
pub(crate) fn key(record_type: &str, id: &str) -> Result<(), Error> {
    kind(record_type)?;
    within("id", id, LONGEST_ID)
}

/// Errors with [`Error::Invalid`] when no record can have this type.
pub(crate) fn kind(record_type: &str) -> Result<(), Error> {
    name("record type", record_type)
}

/// Errors with [`Error::Invalid`] when nothing can have this name.
pub(crate) fn name(what: &str, name: &str) -> Result<(), Error> {
    within(what, name, LONGEST_NAME)
}

/// Errors with [`Error::Invalid`] when a name is longer than `longest`, or such that not every store keeps it.
pub(crate) fn within(what: &str, name: &str, longest: usize) -> Result<(), Error> {
    if name.len() > longest {
        return Err(Error::Invalid(format!(
            "the {what} has {} bytes; {longest} are allowed",
            name.len()
        )));
    }
    // PostgreSQL keeps no texts with one.
    if name.contains('\0') {
        return Err(Error::Invalid(format!("the {what} has a zero byte in it")));
    }
    Ok(())
}
