//! Making a backup of a databroker that runs on meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::StreamExt;
use jiff::Timestamp;
use pomerium_api::databroker::{Databroker, Error, Latest, Record, RecordKey, Versions};
use pomerium_api::pb::databroker::TypedOptions;
use pomerium_api::records::to_proto_time;
use prost::Message;

use super::format::{About, AllOptions, End, Kind, Several, Writer};
use super::{BackupError, Summary};
use crate::told;

/// Bytes of records in one frame, about.
const FRAME: usize = 1024 * 1024;

/// Writes everything `broker` has and can read to a new file at `path`, sealed with `key`. The file gets its name when it is
/// whole and durable. What could not be read is in [`Summary::left_out`].
///
/// # Errors
/// The file is there already or cannot be written, or the databroker fails; then there is no file.
pub async fn write(
    broker: &dyn Databroker,
    path: &Path,
    key: &[u8; 32],
    now: Timestamp,
) -> Result<Summary, BackupError> {
    let mut writer = Writer::create(path, key)?;
    writer.frame(
        Kind::About,
        &About {
            created: Some(to_proto_time(now)),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        },
    )?;
    let mut types = BTreeMap::new();
    let (begun, records) = write_records(broker, &mut writer, &mut types).await?;
    let (versions, changes) = write_changes(broker, &mut writer, begun, &mut types).await?;
    write_options(broker, &mut writer).await?;
    let left_out = left_out(broker).await?;
    let end = End {
        begun: Some(begun),
        versions: Some(versions),
        records,
        changes,
        left_out: left_out.iter().map(named).collect(),
    };
    writer.frame(Kind::End, &end)?;
    writer.finish()?;
    Ok(Summary {
        created: now,
        versions,
        records: count(types.into_keys()),
        left_out,
    })
}

/// What `broker` could not read while it told everything it has.
async fn left_out(broker: &dyn Databroker) -> Result<Vec<RecordKey>, BackupError> {
    match broker.unreadable().await {
        // One of a former version cannot say.
        Err(Error::Unsupported(_)) => Ok(Vec::new()),
        unreadable => Ok(unreadable?),
    }
}

/// A record of which nothing else is known.
fn named((record_type, id): &RecordKey) -> Record {
    Record {
        r#type: record_type.clone(),
        id: id.clone(),
        ..Record::default()
    }
}

/// How many keys there are of each type.
pub(super) fn count(keys: impl Iterator<Item = (String, String)>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (record_type, _) in keys {
        *counts.entry(record_type).or_default() += 1;
    }
    counts
}

type Keys = BTreeMap<(String, String), ()>;

/// Records in frames of a good size.
struct Frames<'w> {
    writer: &'w mut Writer,
    kind: Kind,
    several: Several,
    size: usize,
    count: u64,
}

impl<'w> Frames<'w> {
    fn new(writer: &'w mut Writer, kind: Kind) -> Self {
        Self {
            writer,
            kind,
            several: Several::default(),
            size: 0,
            count: 0,
        }
    }

    fn add(&mut self, record: Record) -> Result<(), BackupError> {
        self.size += record.encoded_len();
        self.count += 1;
        self.several.records.push(record);
        match self.size >= FRAME {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        self.size = 0;
        let several = std::mem::take(&mut self.several);
        match several.records.is_empty() {
            true => Ok(()),
            false => self.writer.frame(self.kind, &several),
        }
    }
}

async fn write_records(
    broker: &dyn Databroker,
    writer: &mut Writer,
    keys: &mut Keys,
) -> Result<(Versions, u64), BackupError> {
    let mut frames = Frames::new(writer, Kind::Records);
    let mut latest = broker.sync_latest("").await?;
    while let Some(item) = latest.next().await {
        match item? {
            Latest::Record(record) => {
                keys.insert((record.r#type.clone(), record.id.clone()), ());
                frames.add(record)?;
            }
            Latest::Versions(versions) => {
                frames.flush()?;
                return Ok((versions, frames.count));
            }
        }
    }
    Err(Error::Unavailable("the databroker ended its answer early".into()).into())
}

/// What was written since `from`, so that the backup is of one moment.
async fn write_changes(
    broker: &dyn Databroker,
    writer: &mut Writer,
    from: Versions,
    keys: &mut Keys,
) -> Result<(Versions, u64), BackupError> {
    let mut frames = Frames::new(writer, Kind::Changes);
    let mut to = from;
    let mut changes = broker.sync_until_now("", from).await?;
    while let Some(change) = changes.next().await {
        let change = change?;
        to.latest_record_version = change.version;
        let key = (change.r#type.clone(), change.id.clone());
        match change.deleted_at {
            Some(_) => keys.remove(&key),
            None => keys.insert(key, ()),
        };
        frames.add(change)?;
    }
    frames.flush()?;
    Ok((to, frames.count))
}

async fn write_options(broker: &dyn Databroker, writer: &mut Writer) -> Result<(), BackupError> {
    let typed = |(type_url, options)| TypedOptions {
        type_url,
        options: Some(options),
    };
    let types = told::options(broker).await?.types.into_iter().map(typed);
    let all = AllOptions {
        types: types.collect(),
    };
    writer.frame(Kind::Options, &all)
}
