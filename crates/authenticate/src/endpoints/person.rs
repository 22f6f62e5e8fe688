//! The person behind a session, by the records as the databroker has them: for the authenticate host, where no route
//! has looked at the request before.

use std::collections::HashMap;
use std::sync::Arc;

use pomerium_api::databroker::{Databroker, Error, Record, Versions};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{DIRECTORY_GROUP, DIRECTORY_USER};
use pomerium_api::synced::{Entry, ServiceAccountEntry, SessionEntry, StructEntry, UserEntry};
use pomerium_authorize::{Principal, Records};
use pomerium_policy::GroupSource;
use pomerium_web::pages::Group;
use serde_json::Value;

use crate::session::find;

/// Most groups whose names are looked up for a page.
const MOST_NAMES: usize = 200;

/// Where these records were read does not matter: nothing is kept.
const NOWHERE: Versions = Versions {
    server_version: 0,
    latest_record_version: 0,
};

struct Fetched {
    user: Option<Arc<UserEntry>>,
    directory_user: Option<Arc<StructEntry>>,
    groups: HashMap<String, Arc<StructEntry>>,
}

impl Records for Fetched {
    fn session(&self, _id: &str) -> Option<Arc<SessionEntry>> {
        None
    }

    fn user(&self, _id: &str) -> Option<Arc<UserEntry>> {
        self.user.clone()
    }

    fn service_account(&self, _id: &str) -> Option<Arc<ServiceAccountEntry>> {
        None
    }

    fn directory_user(&self, _id: &str) -> Option<Arc<StructEntry>> {
        self.directory_user.clone()
    }

    fn directory_group(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.groups.get(id).cloned()
    }
}

/// The person of a session, who impersonates nobody here. Errors when the databroker cannot tell.
pub(super) async fn of_session(
    broker: &dyn Databroker,
    session: &Session,
    groups_claim: &Arc<str>,
) -> Result<Option<Principal>, Error> {
    let user = find::<User>(broker, &session.user_id).await?;
    let directory_user = free_object(broker, DIRECTORY_USER, &session.user_id).await?;
    let ids = directory_user
        .as_ref()
        .and_then(|entry| entry.data.get("group_ids")?.as_array().cloned());
    let mut groups = HashMap::new();
    for id in ids.iter().flatten().filter_map(Value::as_str).take(MOST_NAMES) {
        if let Some(group) = free_object(broker, DIRECTORY_GROUP, id).await? {
            groups.insert(id.to_owned(), group);
        }
    }
    let fetched = Fetched {
        user: user.map(|user| Arc::new(UserEntry::new(NOWHERE, user))),
        directory_user,
        groups,
    };
    let own = Session {
        impersonate_session_id: None,
        ..session.clone()
    };
    let own = Arc::new(SessionEntry::new(NOWHERE, own));
    Ok(Principal::of_session(&fetched, own, groups_claim).ok())
}

async fn free_object(
    broker: &dyn Databroker,
    kind: &str,
    id: &str,
) -> Result<Option<Arc<StructEntry>>, Error> {
    let record: Record = match broker.get(kind, id).await {
        Ok(record) => record,
        Err(Error::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(StructEntry::of_record(0, &record)?.map(Arc::new))
}

/// The groups that count, each with where it came from.
pub(super) fn groups(principal: &Principal) -> Vec<Group> {
    let source = match principal.subject.groups.source {
        GroupSource::Claim => format!("claim {}", principal.groups_claim()),
        source => source.as_str().to_owned(),
    };
    let group = |group: &pomerium_policy::Group| Group {
        id: group.id.clone(),
        name: [&group.name, &group.id]
            .into_iter()
            .find(|text| !text.is_empty())
            .cloned()
            .unwrap_or_default(),
        source: source.clone(),
    };
    let mut groups: Vec<Group> = principal.subject.groups.all.iter().map(group).collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups
}
