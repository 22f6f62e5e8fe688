//! Writing: lock, read what the write may touch, let [`apply`] work on it, write what came of it, commit, tell.

use std::collections::{BTreeSet, VecDeque};
use std::time::SystemTime;

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Record};
use pomerium_api::records::from_proto_time;
use prost::Message;

use super::listen::{CHANNEL, SERVICE_CHANNEL};
use super::migrate::{self, signed, unsigned};
use super::overlay::{Ages, Overlay};
use super::read::{counters_of, decode_options, services};
use super::unavailable;
use crate::apply::{Lease, apply};
use crate::seal::{Place, Sealer};
use crate::store::{Copy, Counters, Key, Registered, Write, Written, ttl};

/// With the format: a later version may have changed the tables since this process began.
const COUNTERS_WITH_FORMAT: &str = "SELECT server_version, latest, trimmed, standing, (SELECT format FROM pomerium_rs.format) FROM pomerium_rs.about";
/// The same, and nobody else comes in between.
const COUNTERS_TO_CHANGE: &str = "SELECT server_version, latest, trimmed, standing, (SELECT format FROM pomerium_rs.format) FROM pomerium_rs.about FOR UPDATE";

/// How many records one clean-up lets expire; the next goes on.
const MOST_EXPIRED: i64 = 10_000;

/// Carries out one write, whole or not at all. Durable when it returns.
pub(super) async fn run(
    connection: &mut Object,
    sealer: &Sealer,
    write: &Write,
    now: Timestamp,
) -> Result<Written, Error> {
    refuse_zeros(write)?;
    let transaction = connection
        .transaction()
        .await
        .map_err(|error| unavailable(&error))?;
    // Leases have a row of their own to wait for; everything else takes its turn here.
    let counters = match write {
        Write::Lease(_) | Write::ReleaseLease { .. } => COUNTERS_WITH_FORMAT,
        _ => COUNTERS_TO_CHANGE,
    };
    // Every question costs a way there and back: what each write asks is prepared once.
    let counters = transaction.prepare_cached(counters).await;
    let row = transaction
        .query_one(&counters.map_err(|error| unavailable(&error))?, &[])
        .await
        .map_err(|error| unavailable(&error))?;
    migrate::still_known(row.get(4))?;
    let before = counters_of(&row);
    let mut counters = before;
    let mut overlay = prefetch(&transaction, sealer, write, now).await?;
    let written = apply(&mut overlay, &mut counters, write, now)?;
    store(&transaction, sealer, write, &overlay, (before, counters)).await?;
    transaction.commit().await.map_err(|error| unavailable(&error))?;
    Ok(written)
}

/// PostgreSQL keeps no text with a zero in it.
fn refuse_zeros(write: &Write) -> Result<(), Error> {
    let has_zero = match write {
        Write::Put(records) | Write::Patch { records, .. } => records.iter().any(names_hold_zero),
        Write::Replace(record) => names_hold_zero(record),
        Write::SetOptions { record_type, .. } => record_type.contains('\0'),
        Write::Lease(request) => request.name.contains('\0'),
        Write::ReleaseLease { name, id } => name.contains('\0') || id.contains('\0'),
        Write::Copy(Copy::Part { records, .. } | Copy::Changes(records)) => {
            records.iter().any(names_hold_zero)
        }
        Write::Copy(Copy::Options(all)) => all.iter().any(|(record_type, _)| record_type.contains('\0')),
        Write::Copy(Copy::Begin | Copy::End { .. }) => false,
        Write::Clear | Write::Trim(_) | Write::Expire | Write::Promote => false,
        Write::Report { services, .. } => services.iter().any(|service| service.endpoint.contains('\0')),
    };
    if has_zero {
        return Err(Error::Invalid(
            "PostgreSQL keeps no names with a zero byte in them".into(),
        ));
    }
    Ok(())
}

fn names_hold_zero(record: &Record) -> bool {
    record.r#type.contains('\0') || record.id.contains('\0')
}

async fn prefetch(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    write: &Write,
    now: Timestamp,
) -> Result<Overlay, Error> {
    let mut overlay = Overlay::default();
    match write {
        Write::Put(records) | Write::Patch { records, .. } => {
            read_live(transaction, sealer, records.iter(), &mut overlay).await?;
            read_options(transaction, &mut overlay).await?;
            read_ages(transaction, sealer, records, &mut overlay).await?;
        }
        Write::Replace(record) => {
            read_live(transaction, sealer, std::iter::once(record), &mut overlay).await?
        }
        Write::SetOptions { .. } => read_options(transaction, &mut overlay).await?,
        Write::Lease(request) => read_lease(transaction, &request.name, &mut overlay).await?,
        Write::ReleaseLease { name, .. } => read_lease(transaction, name, &mut overlay).await?,
        Write::Copy(Copy::Part { after, records, last }) => {
            let to = records.last().filter(|_| !last);
            read_between(transaction, after.as_ref(), to, &mut overlay).await?;
        }
        Write::Copy(_) | Write::Clear | Write::Promote => {}
        Write::Report { .. } => read_services(transaction, &mut overlay).await?,
        Write::Trim(before) => read_old_changes(transaction, *before, &mut overlay).await?,
        Write::Expire => {
            read_options(transaction, &mut overlay).await?;
            read_services(transaction, &mut overlay).await?;
            read_expired(transaction, sealer, now, &mut overlay).await?;
        }
    }
    Ok(overlay)
}

async fn read_live(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    records: impl Iterator<Item = &Record>,
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let keys: BTreeSet<Key> = records
        .map(|record| (record.r#type.clone(), record.id.clone()))
        .collect();
    let (types, ids): (Vec<&str>, Vec<&str>) = keys
        .iter()
        .map(|(record_type, id)| (record_type.as_str(), id.as_str()))
        .unzip();
    let statement = transaction
        .prepare_cached(
            "SELECT r.type, r.id, r.value FROM pomerium_rs.records r
             JOIN unnest($1::text[], $2::text[]) AS k(type, id) ON r.type = k.type AND r.id = k.id",
        )
        .await
        .map_err(|error| unavailable(&error))?;
    let rows = transaction
        .query(&statement, &[&types, &ids])
        .await
        .map_err(|error| unavailable(&error))?;
    overlay.live.extend(keys.iter().map(|key| (key.clone(), None)));
    for row in rows {
        let (record_type, id): (String, String) = (row.get(0), row.get(1));
        let place = Place::Live {
            record_type: &record_type,
            id: &id,
        };
        let record = sealer.open(row.get(2), &place)?;
        overlay.live.insert((record_type, id), Some(record));
    }
    Ok(())
}

/// The keys of live records behind `after`, up to and with `to`.
async fn read_between(
    transaction: &Transaction<'_>,
    after: Option<&Key>,
    to: Option<&Record>,
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let (after_type, after_id) = after.map(|(record_type, id)| (record_type, id)).unzip();
    let (to_type, to_id) = to.map(|record| (&record.r#type, &record.id)).unzip();
    let rows = transaction
        .query(
            "SELECT type, id FROM pomerium_rs.records
             WHERE ($1::text IS NULL OR (type, id) > ($1, $2)) AND ($3::text IS NULL OR (type, id) <= ($3, $4))",
            &[&after_type, &after_id, &to_type, &to_id],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    overlay.between = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(())
}

async fn read_options(transaction: &Transaction<'_>, overlay: &mut Overlay) -> Result<(), Error> {
    let statement = transaction
        .prepare_cached("SELECT type, value FROM pomerium_rs.options")
        .await
        .map_err(|error| unavailable(&error))?;
    let rows = transaction
        .query(&statement, &[])
        .await
        .map_err(|error| unavailable(&error))?;
    for row in rows {
        let record_type: String = row.get(0);
        let options = decode_options(&record_type, row.get(1))?;
        overlay.options.insert(record_type, options);
    }
    Ok(())
}

/// For each type with a capacity, as many of the oldest as this write can drive out.
async fn read_ages(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    records: &[Record],
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let types: BTreeSet<&str> = records.iter().map(|record| record.r#type.as_str()).collect();
    for record_type in types {
        let capacity = overlay
            .options
            .get(record_type)
            .and_then(|options| options.capacity);
        let Some(capacity) = capacity else { continue };
        let row = transaction
            .query_one(
                "SELECT count(*) FROM pomerium_rs.records WHERE type = $1",
                &[&record_type],
            )
            .await
            .map_err(|error| unavailable(&error))?;
        let count = unsigned(row.get(0));
        let surplus = (count + records.len() as u64).saturating_sub(capacity);
        let ids = read_oldest(
            transaction,
            sealer,
            record_type,
            surplus + records.len() as u64,
            overlay,
        )
        .await?;
        overlay
            .ages
            .insert(record_type.to_owned(), Ages { count, oldest: ids });
    }
    Ok(())
}

async fn read_oldest(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    record_type: &str,
    most: u64,
    overlay: &mut Overlay,
) -> Result<VecDeque<String>, Error> {
    let rows = transaction
        .query(
            "SELECT id, value FROM pomerium_rs.records WHERE type = $1 ORDER BY version LIMIT $2",
            &[&record_type, &i64::try_from(most).unwrap_or(i64::MAX)],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    let mut ids = VecDeque::with_capacity(rows.len());
    for row in rows {
        let id: String = row.get(0);
        let record = sealer.open(row.get(1), &Place::Live { record_type, id: &id })?;
        overlay
            .live
            .insert((record_type.to_owned(), id.clone()), Some(record));
        ids.push_back(id);
    }
    Ok(ids)
}

async fn read_expired(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    now: Timestamp,
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let limited: Vec<(String, SystemTime)> = overlay
        .options
        .iter()
        .filter_map(|(record_type, options)| {
            let before = now.checked_sub(ttl(options)?).ok()?;
            Some((record_type.clone(), SystemTime::from(before)))
        })
        .collect();
    for (record_type, before) in limited {
        let row = transaction
            .query_one(
                "SELECT count(*) FROM (SELECT 1 FROM pomerium_rs.records WHERE type = $1 AND modified_at < $2 LIMIT $3) old",
                &[&record_type, &before, &MOST_EXPIRED],
            )
            .await
            .map_err(|error| unavailable(&error))?;
        let count = unsigned(row.get(0));
        let oldest = match count {
            0 => VecDeque::new(),
            _ => read_oldest(transaction, sealer, &record_type, count, overlay).await?,
        };
        overlay.ages.insert(record_type, Ages { count, oldest });
    }
    Ok(())
}

async fn read_lease(transaction: &Transaction<'_>, name: &str, overlay: &mut Overlay) -> Result<(), Error> {
    // Whoever comes second waits here, also when there is no row yet.
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('pomerium_rs.lease.' || $1, 0))",
            &[&name],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    let row = transaction
        .query_opt(
            "SELECT id, expires FROM pomerium_rs.leases WHERE name = $1",
            &[&name],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    if let Some(row) = row {
        let expires = Timestamp::try_from(row.get::<_, SystemTime>(1)).unwrap_or(Timestamp::MIN);
        let id = row.get(0);
        overlay.leases.insert(name.to_owned(), Lease { id, expires });
    }
    Ok(())
}

async fn read_services(transaction: &Transaction<'_>, overlay: &mut Overlay) -> Result<(), Error> {
    let known = services(&**transaction, Timestamp::UNIX_EPOCH).await?;
    let by_key = |service: Registered| ((service.kind, service.endpoint), service.expires);
    overlay.services = known.into_iter().map(by_key).collect();
    Ok(())
}

async fn read_old_changes(
    transaction: &Transaction<'_>,
    before: Timestamp,
    overlay: &mut Overlay,
) -> Result<(), Error> {
    let row = transaction
        .query_one(
            "SELECT count(*), max(version) FROM pomerium_rs.changes WHERE version <
             coalesce((SELECT min(version) FROM pomerium_rs.changes WHERE modified_at >= $1), 9223372036854775807)",
            &[&SystemTime::from(before)],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    overlay.old_changes = (unsigned(row.get(0)), row.get::<_, Option<i64>>(1).map(unsigned));
    Ok(())
}

async fn store(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    write: &Write,
    overlay: &Overlay,
    (before, after): (Counters, Counters),
) -> Result<(), Error> {
    if overlay.cleared {
        transaction
            .batch_execute(
                "DELETE FROM pomerium_rs.records; DELETE FROM pomerium_rs.changes; DELETE FROM pomerium_rs.options",
            )
            .await
            .map_err(|error| unavailable(&error))?;
    }
    if overlay.changes_cleared {
        transaction
            .batch_execute("DELETE FROM pomerium_rs.changes")
            .await
            .map_err(|error| unavailable(&error))?;
    }
    store_changes(transaction, sealer, &overlay.changes).await?;
    store_records(transaction, sealer, overlay).await?;
    store_options(transaction, overlay).await?;
    match write {
        Write::Lease(request) => store_lease(transaction, &request.name, overlay).await?,
        Write::ReleaseLease { name, .. } => store_lease(transaction, name, overlay).await?,
        Write::Trim(_) => {
            if let (_, Some(last)) = overlay.old_changes {
                transaction
                    .execute(
                        "DELETE FROM pomerium_rs.changes WHERE version <= $1",
                        &[&signed(last)],
                    )
                    .await
                    .map_err(|error| unavailable(&error))?;
            }
        }
        _ => {}
    }
    store_services(transaction, overlay).await?;
    if before == after {
        return Ok(());
    }
    let statement = transaction
        .prepare_cached(
            "UPDATE pomerium_rs.about SET server_version = $1, latest = $2, trimmed = $3, standing = $4",
        )
        .await
        .map_err(|error| unavailable(&error))?;
    transaction
        .execute(
            &statement,
            &[
                &signed(after.server_version),
                &signed(after.latest),
                &signed(after.trimmed),
                // There is room for every term.
                &i16::try_from(after.mark()).unwrap_or(i16::MAX),
            ],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    // Told when it is committed.
    transaction
        .batch_execute(&format!("NOTIFY {CHANNEL}"))
        .await
        .map_err(|error| unavailable(&error))
}

fn written_at(record: &Record) -> SystemTime {
    let at = record.modified_at.as_ref().and_then(from_proto_time);
    SystemTime::from(at.unwrap_or(Timestamp::UNIX_EPOCH))
}

async fn store_changes(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    changes: &[Record],
) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let versions: Vec<i64> = changes.iter().map(|record| signed(record.version)).collect();
    let types: Vec<&str> = changes.iter().map(|record| record.r#type.as_str()).collect();
    let times: Vec<SystemTime> = changes.iter().map(written_at).collect();
    let values: Vec<Vec<u8>> = changes
        .iter()
        .map(|record| sealer.seal(record, &Place::Change(record.version)))
        .collect();
    let statement = transaction
        .prepare_cached(
            "INSERT INTO pomerium_rs.changes (version, type, modified_at, value)
             SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::bytea[])",
        )
        .await
        .map_err(|error| unavailable(&error))?;
    transaction
        .execute(&statement, &[&versions, &types, &times, &values])
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(())
}

async fn store_records(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    overlay: &Overlay,
) -> Result<(), Error> {
    let gone = overlay.written.iter().filter(|(_, record)| record.is_none());
    let (types, ids): (Vec<&str>, Vec<&str>) = gone
        .map(|((record_type, id), _)| (record_type.as_str(), id.as_str()))
        .unzip();
    if !types.is_empty() {
        transaction
            .execute(
                "DELETE FROM pomerium_rs.records r USING unnest($1::text[], $2::text[]) AS k(type, id)
                 WHERE r.type = k.type AND r.id = k.id",
                &[&types, &ids],
            )
            .await
            .map_err(|error| unavailable(&error))?;
    }
    let kept: Vec<&Record> = overlay.written.values().flatten().collect();
    if kept.is_empty() {
        return Ok(());
    }
    let types: Vec<&str> = kept.iter().map(|record| record.r#type.as_str()).collect();
    let ids: Vec<&str> = kept.iter().map(|record| record.id.as_str()).collect();
    let versions: Vec<i64> = kept.iter().map(|record| signed(record.version)).collect();
    let times: Vec<SystemTime> = kept.iter().map(|record| written_at(record)).collect();
    let values: Vec<Vec<u8>> = kept
        .iter()
        .map(|record| {
            let (record_type, id) = (record.r#type.as_str(), record.id.as_str());
            sealer.seal(record, &Place::Live { record_type, id })
        })
        .collect();
    let statement = transaction
        .prepare_cached(
            "INSERT INTO pomerium_rs.records (type, id, version, modified_at, value)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bytea[])
             ON CONFLICT (type, id) DO UPDATE
             SET version = EXCLUDED.version, modified_at = EXCLUDED.modified_at, value = EXCLUDED.value",
        )
        .await
        .map_err(|error| unavailable(&error))?;
    transaction
        .execute(&statement, &[&types, &ids, &versions, &times, &values])
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(())
}

async fn store_options(transaction: &Transaction<'_>, overlay: &Overlay) -> Result<(), Error> {
    for record_type in &overlay.options_written {
        match overlay.options.get(record_type) {
            Some(options) => {
                transaction
                    .execute(
                        "INSERT INTO pomerium_rs.options (type, value) VALUES ($1, $2)
                         ON CONFLICT (type) DO UPDATE SET value = EXCLUDED.value",
                        &[record_type, &options.encode_to_vec()],
                    )
                    .await
            }
            None => {
                transaction
                    .execute("DELETE FROM pomerium_rs.options WHERE type = $1", &[record_type])
                    .await
            }
        }
        .map_err(|error| unavailable(&error))?;
    }
    Ok(())
}

async fn store_services(transaction: &Transaction<'_>, overlay: &Overlay) -> Result<(), Error> {
    if overlay.services_gone.is_empty() && overlay.services_written.is_empty() {
        return Ok(());
    }
    let of = |services: &[Registered]| -> (Vec<i32>, Vec<String>) {
        services
            .iter()
            .map(|service| (service.kind, service.endpoint.clone()))
            .unzip()
    };
    let (kinds, endpoints) = of(&overlay.services_gone);
    transaction
        .execute(
            "DELETE FROM pomerium_rs.services s USING unnest($1::integer[], $2::text[]) AS k(kind, endpoint)
             WHERE s.kind = k.kind AND s.endpoint = k.endpoint",
            &[&kinds, &endpoints],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    let (kinds, endpoints) = of(&overlay.services_written);
    let ends: Vec<SystemTime> = overlay
        .services_written
        .iter()
        .map(|service| SystemTime::from(service.expires))
        .collect();
    transaction
        .execute(
            "INSERT INTO pomerium_rs.services (kind, endpoint, expires)
             SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[])
             ON CONFLICT (kind, endpoint) DO UPDATE SET expires = EXCLUDED.expires",
            &[&kinds, &endpoints, &ends],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    transaction
        .batch_execute(&format!("NOTIFY {SERVICE_CHANNEL}"))
        .await
        .map_err(|error| unavailable(&error))
}

async fn store_lease(transaction: &Transaction<'_>, name: &str, overlay: &Overlay) -> Result<(), Error> {
    let Some(lease) = overlay.leases.get(name).filter(|_| overlay.lease_written) else {
        return Ok(());
    };
    // The least moment of the two: PostgreSQL's reaches further back than it can be read.
    let expires = SystemTime::from(lease.expires.max(Timestamp::UNIX_EPOCH));
    transaction
        .execute(
            "INSERT INTO pomerium_rs.leases (name, id, expires) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET id = EXCLUDED.id, expires = EXCLUDED.expires",
            &[&name, &lease.id, &expires],
        )
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(())
}
