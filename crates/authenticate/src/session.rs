//! Session and user records: whether a session still counts, how a login is written, how a session ends.

use jiff::Timestamp;
use pomerium_api::databroker::{Databroker, Error};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{RecordMessage, from_proto_time, from_record, to_record, to_tombstone};

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

/// Where a written session stands, for the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Identity of the database.
    pub server_version: u64,
    /// Version of the session record.
    pub record_version: u64,
}

/// Writes a login: the user first, so that nobody ever sees a session without its user.
pub async fn write_login(broker: &dyn Databroker, user: &User, session: &Session) -> Result<Written, Error> {
    broker.put(vec![to_record(user)]).await?;
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
