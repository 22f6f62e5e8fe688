//! Answers that no single message can carry: lists are asked for in portions, and what a patch made is read back one by
//! one.

use prost::Message;

use super::{LARGEST, Remote};
use crate::databroker::{Databroker, Error, Page, PutReply, Query, Record};
use crate::pb::databroker as pb;

/// How many records are asked for at most. Most lists come whole.
const MOST: u64 = 64 * 1024;
/// How many are asked for where that is too large for a message.
const FEWER: u64 = 1024;
/// How many of those that are here already are asked for again, to see where they are by now.
const AGAIN: u64 = 16;
/// What a portion after the first should come to, in bytes.
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

    /// `None` when so many records came or went before those that were read that their place is lost.
    async fn one_try(&self, query: &Query) -> Result<Option<Page>, Error> {
        let mut so_far: Option<Page> = None;
        let mut size = MOST;
        loop {
            let count = so_far.as_ref().map_or(0, |page| page.records.len() as u64);
            let again = count.min(AGAIN).min(size);
            let wanted = again + size.min(query.limit - count);
            let portion = Query {
                offset: query.offset.saturating_add(count - again),
                limit: wanted,
                ..query.clone()
            };
            let Some(mut next) = self.portion(portion).await? else {
                if size == 1 {
                    return Err(too_large());
                }
                size = FEWER.min(size / 2);
                continue;
            };
            let came = next.records.len() as u64;
            size = next_size(&next.records).unwrap_or(size);
            let mut page = match so_far.take() {
                None => next,
                Some(mut page) => {
                    if !go_on(&page.records, &mut next.records) {
                        return Ok(None);
                    }
                    // The versions stay those of the first: whoever goes on from there misses nothing.
                    page.total = next.total;
                    page.records.append(&mut next.records);
                    page
                }
            };
            let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
            page.records.truncate(limit);
            let count = page.records.len() as u64;
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

/// Takes out of `next` what is in `records` already; false when the last of those is not in it.
fn go_on(records: &[Record], next: &mut Vec<Record>) -> bool {
    let last = records.last().map(key);
    match next.iter().position(|record| Some(key(record)) == last) {
        Some(place) => {
            next.drain(..=place);
            true
        }
        None => false,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ids: &str) -> Vec<Record> {
        let record = |id: char| Record {
            id: id.into(),
            ..Record::default()
        };
        ids.chars().map(record).collect()
    }

    #[test]
    fn a_list_goes_on_behind_its_last_record_wherever_that_is_by_now() {
        for (next, left) in [
            ("bcdef", Some("def")),
            // One came before, one went.
            ("abcde", Some("de")),
            ("cdefg", Some("defg")),
            ("defgh", None),
        ] {
            let mut next = records(next);
            let found = go_on(&records("abc"), &mut next);
            assert_eq!(found.then_some(next), left.map(records));
        }
    }

    #[test]
    fn portions_are_of_one_size_in_bytes() {
        assert_eq!(next_size(&[]), None);
        assert_eq!(next_size(&records("abc")), Some(MOST));
        let large = Record {
            id: "x".repeat(5 * 1024 * 1024),
            ..Record::default()
        };
        assert_eq!(next_size(&[large]), Some(1));
    }
}
