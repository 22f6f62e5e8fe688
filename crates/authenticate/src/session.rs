//! Session and user records: whether a session still counts, how a login is written, how a session ends.

use jiff::Timestamp;
use pomerium_api::databroker::{Databroker, Error, Record};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{RecordMessage, from_proto_time, from_record, to_record, to_tombstone};
use pomerium_identity::{Identity, user_from_identity};

/// Writers that may come between before we give up.
const TRIES: usize = 8;

/// Whether a session counts at `now` (spec authentication.md 9): its own time is not over, and its tokens
/// either live or can be renewed.
pub fn is_alive(session: &Session, now: Timestamp) -> bool {
    let over = |at: Option<&prost_types::Timestamp>| {
        at.filter(|at| at.seconds > 0)
            .and_then(from_proto_time)
            .is_some_and(|at| at <= now)
    };
    if over(session.expires_at.as_ref()) {
        return false;
    }
    let Some(token) = session.oauth_token.as_ref() else {
        return true;
    };
    !over(token.expires_at.as_ref()) || !(session.refresh_disabled || token.refresh_token.is_empty())
}

/// A live record, or `None`. Errors when the databroker cannot tell.
pub async fn find<M: RecordMessage>(broker: &dyn Databroker, id: &str) -> Result<Option<M>, Error> {
    match broker.get(M::TYPE, id).await {
        Ok(record) => from_record(&record).map(Some),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes a record, whoever else writes it meanwhile, and nothing in it but what `change` changes. `None` when
/// there is no such record: one that was deleted does not come back.
pub(crate) async fn edit<M: RecordMessage>(
    broker: &dyn Databroker,
    id: &str,
    change: impl Fn(&mut M) + Send + Sync,
) -> Result<Option<Record>, Error> {
    for _ in 0..TRIES {
        let record = match broker.get(M::TYPE, id).await {
            Ok(record) => record,
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut message: M = from_record(&record)?;
        change(&mut message);
        let changed = Record {
            version: record.version,
            ..to_record(&message)
        };
        if let Some(stored) = broker.replace(changed).await? {
            return Ok(Some(stored));
        }
    }
    Err(Error::Unavailable(format!("record {id} is written too often")))
}

/// Where a written session stands, for the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Identity of the database.
    pub server_version: u64,
    /// Version of the session record.
    pub record_version: u64,
}

/// Writes a login: the user first, so that nobody ever sees a session without its user. What the user's record knows
/// beyond the identity stays, also what is written into it at this very moment, such as a new device.
pub async fn write_login(
    broker: &dyn Databroker,
    identity: &Identity,
    session: &Session,
) -> Result<Written, Error> {
    let renew = |user: &mut User| *user = user_from_identity(identity, Some(user));
    if edit(broker, identity.user_id(), renew).await?.is_none() {
        broker
            .put(vec![to_record(&user_from_identity(identity, None))])
            .await?;
    }
    let reply = broker.put(vec![to_record(session)]).await?;
    let record_version = reply.records.first().map_or(0, |record| record.version);
    Ok(Written {
        server_version: reply.server_version,
        record_version,
    })
}

/// Ends a session everywhere at once: its record becomes a tombstone. Gives back what the session was, `None`
/// when it was gone already.
pub async fn end(broker: &dyn Databroker, id: &str, now: Timestamp) -> Result<Option<Session>, Error> {
    let Some(session) = find::<Session>(broker, id).await? else {
        return Ok(None);
    };
    broker.put(vec![to_tombstone(&session, now)]).await?;
    Ok(Some(session))
}
