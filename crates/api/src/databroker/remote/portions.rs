//! Answers that no single message can carry: lists are asked for in portions, and what a patch made is read back one by
//! one.

use prost::Message;

use super::{LARGEST, Remote};
use crate::databroker::{Databroker, Error, Page, PutReply, Query, Record};
use crate::pb::databroker as pb;

/// How many records are asked for at first.
const FIRST: u64 = 1024;
/// How many are asked for at most.
const MOST: u64 = 64 * 1024;
/// What the portions after it should come to, in bytes.
const PORTION: u64 = 4 * 1024 * 1024;
/// How often a list is begun anew that changes while it is read.
const TRIES: usize = 5;

impl Remote {
    /// The page that was asked for, however large.
    pub(super) async fn in_portions(&self, query: Query) -> Result<Page, Error> {
        for _ in 0..TRIES {
            if let Some(page) = self.one_try(&query).await? {
                return Ok(page);
            }
        }
        Err(Error::Unavailable(
            "the records change faster than they can be read".into(),
        ))
    }

    /// `None` when a record came or went before those that were read so far.
    async fn one_try(&self, query: &Query) -> Result<Option<Page>, Error> {
        let mut so_far: Option<Page> = None;
        let mut size = FIRST;
        loop {
            let count = so_far.as_ref().map_or(0, |page| page.records.len() as u64);
            // The last one once more: it tells whether everything is where it was.
            let again = u64::from(count > 0);
            let wanted = size.min(query.limit - count);
            let portion = Query {
                offset: query.offset.saturating_add(count - again),
                limit: wanted + again,
                ..query.clone()
            };
            let Some(mut next) = self.portion(portion).await? else {
                if size == 1 {
                    return Err(too_large());
                }
                size /= 2;
                continue;
            };
            if let Some(last) = so_far.as_ref().and_then(|page| page.records.last()) {
                if next.records.first().map(key) != Some(key(last)) {
                    return Ok(None);
                }
                next.records.remove(0);
            }
            let came = next.records.len() as u64;
            size = next_size(&next.records).unwrap_or(size);
            let page = match so_far.take() {
                None => next,
                // The versions of the first: whoever goes on from there misses nothing.
                Some(mut page) => {
                    page.total = next.total;
                    page.records.append(&mut next.records);
                    page
                }
            };
            let count = count + came;
            if came < wanted || count == query.limit || query.offset.saturating_add(count) >= page.total {
                return Ok(Some(page));
            }
            so_far = Some(page);
        }
    }

    async fn portion(&self, query: Query) -> Result<Option<Page>, Error> {
        let mut client = self.records.clone();
        let request = pb::QueryRequest::from(query);
        let page = self
            .sized_call(async move { client.query(request).await })
            .await?;
        Ok(page.map(|page| Page {
            records: page.records,
            total: u64::try_from(page.total_count).unwrap_or_default(),
            versions: pb::Versions {
                server_version: page.server_version,
                latest_record_version: page.record_version,
            },
        }))
    }

    /// Patches records that one message can carry.
    pub(super) async fn patch_part(
        &self,
        records: Vec<Record>,
        mask: Vec<String>,
    ) -> Result<PutReply, Error> {
        let keys: Vec<_> = records
            .iter()
            .map(key)
            .map(|(kind, id)| (kind.to_owned(), id.to_owned()))
            .collect();
        let mut client = self.records.clone();
        let request = pb::PatchRequest {
            records,
            field_mask: Some(prost_types::FieldMask { paths: mask }),
        };
        let written = self
            .sized_call(async move { client.patch(request).await })
            .await?;
        if let Some(written) = written {
            return Ok(PutReply {
                server_version: written.server_version,
                records: written.records,
            });
        }
        let mut reply = PutReply {
            server_version: self.versions().await?.server_version,
            records: Vec::with_capacity(keys.len()),
        };
        for (record_type, id) in keys {
            match self.get(&record_type, &id).await {
                Ok(record) => reply.records.push(record),
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reply)
    }
}

fn key(record: &Record) -> (&str, &str) {
    (&record.r#type, &record.id)
}

/// How many records like these make a portion; `None` without any.
fn next_size(records: &[Record]) -> Option<u64> {
    let bytes: usize = records.iter().map(Message::encoded_len).sum();
    let each = (bytes as u64).checked_div(records.len() as u64)?;
    Some((PORTION / each.max(1)).clamp(1, MOST))
}

fn too_large() -> Error {
    Error::Unavailable(format!(
        "an answer of the databroker is larger than {LARGEST} bytes"
    ))
}
