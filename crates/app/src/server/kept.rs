//! How records of some types are kept (spec databroker.md 1): said at each start, so that whoever writes them need not.

use std::time::Duration;

use pomerium_api::databroker::{Databroker, Error, Options};
use pomerium_api::pb::pomerium::events::LastError;
use pomerium_api::records::RecordMessage;

/// How records of a type are kept.
struct Kept {
    record_type: &'static str,
    /// Fields by which they are found.
    found_by: &'static [&'static str],
    capacity: Option<u64>,
    ttl: Option<Duration>,
}

/// What is in flight and is never finished is forgotten after this long.
const IN_FLIGHT: Duration = Duration::from_secs(15 * 60);

const TABLE: [Kept; 6] = [
    Kept {
        record_type: "type.googleapis.com/session.SessionBindingRequest",
        found_by: &["key"],
        capacity: Some(50_000),
        ttl: Some(IN_FLIGHT),
    },
    Kept {
        record_type: "type.googleapis.com/session.SessionBinding",
        found_by: &["session_id", "user_id"],
        capacity: None,
        ttl: None,
    },
    Kept {
        record_type: "type.googleapis.com/session.IdentityBinding",
        found_by: &["user_id"],
        capacity: None,
        ttl: None,
    },
    Kept {
        record_type: "type.googleapis.com/oauth21.UpstreamMCPToken",
        found_by: &["user_id", "route_id"],
        capacity: None,
        ttl: None,
    },
    Kept {
        record_type: "type.googleapis.com/oauth21.PendingUpstreamAuth",
        found_by: &["state_id"],
        capacity: None,
        ttl: Some(IN_FLIGHT),
    },
    Kept {
        record_type: LastError::TYPE,
        found_by: &[],
        capacity: Some(50),
        ttl: None,
    },
];

impl Kept {
    fn options(&self) -> Options {
        Options {
            capacity: self.capacity,
            indexable_fields: self.found_by.iter().map(ToString::to_string).collect(),
            ttl: self.ttl.and_then(|ttl| ttl.try_into().ok()),
        }
    }
}

/// Says it all to `broker`. What is said already is not written again; a store that cannot be written is served all the
/// same, for what is in it.
pub(super) async fn say(broker: &dyn Databroker) {
    for kept in &TABLE {
        if let Err(error) = say_one(broker, kept).await {
            tracing::error!(%error, record_type = kept.record_type, "databroker: how records are kept cannot be said");
        }
    }
}

async fn say_one(broker: &dyn Databroker, kept: &Kept) -> Result<(), Error> {
    let wanted = kept.options();
    if broker.options(kept.record_type).await?.as_ref() == Some(&wanted) {
        return Ok(());
    }
    broker.set_options(kept.record_type.to_owned(), wanted).await
}
