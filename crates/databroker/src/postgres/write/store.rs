//! What came of a write, sent to the server together with the end of the transaction.

use std::time::SystemTime;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use pomerium_api::databroker::{Error, Record};
use prost::Message;

use super::turn::{COMMIT, Sent};
use crate::apply;
use crate::postgres::listen::{CHANGED, SERVICES_CHANGED};
use crate::postgres::migrate::signed;
use crate::postgres::overlay::Overlay;
use crate::seal::{Place, Sealer};
use crate::store::{Counters, Registered, Write};

const CHANGES: &str = "INSERT INTO pomerium_rs.changes (version, type, modified_at, value)
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::bytea[])";
const RECORDS: &str = "INSERT INTO pomerium_rs.records (type, id, version, modified_at, value)
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bytea[])
     ON CONFLICT (type, id) DO UPDATE
     SET version = EXCLUDED.version, modified_at = EXCLUDED.modified_at, value = EXCLUDED.value";
const RECORDS_GONE: &str =
    "DELETE FROM pomerium_rs.records r USING unnest($1::text[], $2::text[]) AS k(type, id)
     WHERE r.type = k.type AND r.id = k.id";
const OPTIONS: &str = "INSERT INTO pomerium_rs.options (type, value) VALUES ($1, $2)
     ON CONFLICT (type) DO UPDATE SET value = EXCLUDED.value";
const OPTIONS_GONE: &str = "DELETE FROM pomerium_rs.options WHERE type = $1";
const LEASE: &str = "INSERT INTO pomerium_rs.leases (name, id, expires) VALUES ($1, $2, $3)
     ON CONFLICT (name) DO UPDATE SET id = EXCLUDED.id, expires = EXCLUDED.expires";
/// A few at a time, and none that somebody else is at work on: nobody waits for another's lease.
const LEASES_GONE: &str = "DELETE FROM pomerium_rs.leases WHERE name IN
     (SELECT name FROM pomerium_rs.leases WHERE expires < $1 AND name <> $2 LIMIT 100 FOR UPDATE SKIP LOCKED)";
const SERVICES: &str = "INSERT INTO pomerium_rs.services (kind, endpoint, expires)
     SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[])
     ON CONFLICT (kind, endpoint) DO UPDATE SET expires = EXCLUDED.expires";
const SERVICES_GONE: &str =
    "DELETE FROM pomerium_rs.services s USING unnest($1::integer[], $2::text[]) AS k(kind, endpoint)
     WHERE s.kind = k.kind AND s.endpoint = k.endpoint";
const TRIM: &str = "DELETE FROM pomerium_rs.changes WHERE version <= $1";
const CLEAR: &str =
    "DELETE FROM pomerium_rs.records; DELETE FROM pomerium_rs.changes; DELETE FROM pomerium_rs.options";
const CLEAR_CHANGES: &str = "DELETE FROM pomerium_rs.changes";
const ABOUT: &str =
    "UPDATE pomerium_rs.about SET server_version = $1, latest = $2, trimmed = $3, standing = $4";

/// Writes what came of `write`, and commits.
pub(super) async fn run(
    client: &ClientWrapper,
    sealer: &Sealer,
    write: &Write,
    overlay: &Overlay,
    (before, after): (Counters, Counters),
) -> Result<(), Error> {
    let mut sent = Sent::new(client);
    if overlay.cleared {
        sent.say(CLEAR);
    }
    if overlay.changes_cleared {
        sent.say(CLEAR_CHANGES);
    }
    // The server works on what it has while the next is sealed.
    changes(&mut sent, sealer, &overlay.changes).await?;
    records(&mut sent, sealer, overlay).await?;
    options(&mut sent, overlay).await?;
    match write {
        Write::Lease(request) => lease(&mut sent, &request.name, overlay).await?,
        Write::ReleaseLease { name, .. } => lease(&mut sent, name, overlay).await?,
        Write::Trim(_) => {
            if let (_, Some(last)) = overlay.old_changes {
                sent.execute(TRIM, vec![Box::new(signed(last))]).await?;
            }
        }
        _ => {}
    }
    services(&mut sent, overlay).await?;
    if before != after {
        about(&mut sent, after).await?;
    }
    sent.say(COMMIT);
    sent.answers().await
}

/// Where the store stands, for the next write and for those who listen: they are told when it is committed.
async fn about(sent: &mut Sent<'_>, after: Counters) -> Result<(), Error> {
    sent.execute(
        ABOUT,
        vec![
            Box::new(signed(after.server_version)),
            Box::new(signed(after.latest)),
            Box::new(signed(after.trimmed)),
            // There is room for every term.
            Box::new(i16::try_from(after.mark()).unwrap_or(i16::MAX)),
        ],
    )
    .await?;
    sent.say(CHANGED);
    Ok(())
}

fn written_at(record: &Record) -> SystemTime {
    SystemTime::from(apply::written_at(record))
}

async fn changes<'c>(sent: &mut Sent<'c>, sealer: &Sealer, changes: &'c [Record]) -> Result<(), Error> {
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
    sent.execute(
        CHANGES,
        vec![
            Box::new(versions),
            Box::new(types),
            Box::new(times),
            Box::new(values),
        ],
    )
    .await
}

async fn records<'c>(sent: &mut Sent<'c>, sealer: &Sealer, overlay: &'c Overlay) -> Result<(), Error> {
    let gone = overlay.written.iter().filter(|(_, record)| record.is_none());
    let (types, ids): (Vec<&str>, Vec<&str>) = gone
        .map(|((record_type, id), _)| (record_type.as_str(), id.as_str()))
        .unzip();
    if !types.is_empty() {
        sent.execute(RECORDS_GONE, vec![Box::new(types), Box::new(ids)])
            .await?;
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
    sent.execute(
        RECORDS,
        vec![
            Box::new(types),
            Box::new(ids),
            Box::new(versions),
            Box::new(times),
            Box::new(values),
        ],
    )
    .await
}

async fn options<'c>(sent: &mut Sent<'c>, overlay: &'c Overlay) -> Result<(), Error> {
    for record_type in &overlay.options_written {
        match overlay.options.get(record_type) {
            Some(options) => {
                let options = options.encode_to_vec();
                sent.execute(OPTIONS, vec![Box::new(record_type), Box::new(options)])
                    .await?;
            }
            None => sent.execute(OPTIONS_GONE, vec![Box::new(record_type)]).await?,
        }
    }
    Ok(())
}

async fn services(sent: &mut Sent<'_>, overlay: &Overlay) -> Result<(), Error> {
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
    sent.execute(SERVICES_GONE, vec![Box::new(kinds), Box::new(endpoints)])
        .await?;
    let (kinds, endpoints) = of(&overlay.services_written);
    let ends: Vec<SystemTime> = overlay
        .services_written
        .iter()
        .map(|service| SystemTime::from(service.expires))
        .collect();
    sent.execute(
        SERVICES,
        vec![Box::new(kinds), Box::new(endpoints), Box::new(ends)],
    )
    .await?;
    sent.say(SERVICES_CHANGED);
    Ok(())
}

async fn lease<'c>(sent: &mut Sent<'c>, name: &'c str, overlay: &'c Overlay) -> Result<(), Error> {
    let Some(lease) = overlay.leases.get(name).filter(|_| overlay.lease_written) else {
        return Ok(());
    };
    // The least moment of the two: PostgreSQL's reaches further back than it can be read.
    let expires = SystemTime::from(lease.expires.max(Timestamp::UNIX_EPOCH));
    sent.execute(
        LEASE,
        vec![Box::new(name), Box::new(&lease.id), Box::new(expires)],
    )
    .await?;
    let Some(ended) = overlay.leases_ended else {
        return Ok(());
    };
    let ended = SystemTime::from(ended.max(Timestamp::UNIX_EPOCH));
    sent.execute(LEASES_GONE, vec![Box::new(ended), Box::new(name)])
        .await
}
