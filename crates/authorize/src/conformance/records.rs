//! The records of a case, as the real lookups see them.

use std::collections::HashMap;
use std::sync::Arc;

use pomerium_api::pb;
use pomerium_api::synced::{ServiceAccountEntry, SessionEntry, UserEntry};
use prost_types::value::Kind;
use serde_json::Value;

use super::case::{Input, Session, User};
use crate::principal::Principal;
use crate::session::Records;

/// Records by id.
pub(super) struct CaseRecords {
    sessions: HashMap<String, Arc<SessionEntry>>,
    users: HashMap<String, Arc<UserEntry>>,
    account: Option<Arc<ServiceAccountEntry>>,
}

impl Records for CaseRecords {
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>> {
        self.sessions.get(id).cloned()
    }

    fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        self.users.get(id).cloned()
    }

    fn service_account(&self, id: &str) -> Option<Arc<ServiceAccountEntry>> {
        self.account.clone().filter(|entry| entry.account.id == id)
    }
}

impl CaseRecords {
    pub(super) fn new(input: &Input) -> Self {
        let account = input.service_account.as_ref().map(|account| {
            let account = pb::user::ServiceAccount {
                id: account.id.clone(),
                user_id: account.user_id.clone(),
                ..Default::default()
            };
            Arc::new(ServiceAccountEntry {
                version: 1,
                server_version: 1,
                account,
            })
        });
        Self {
            sessions: input
                .session
                .iter()
                .chain(&input.other_sessions)
                .map(session)
                .collect(),
            users: input.user.iter().chain(&input.users).map(user).collect(),
            account,
        }
    }

    /// Who asks: the service account, else the session.
    pub(super) fn principal(&self, input: &Input) -> Option<Principal> {
        if let Some(account) = &self.account {
            return Some(Principal::of_account(self, Arc::clone(account)));
        }
        let own = self.session(&input.session.as_ref()?.id)?;
        Principal::of_session(self, own).ok()
    }
}

fn session(session: &Session) -> (String, Arc<SessionEntry>) {
    let message = pb::session::Session {
        id: session.id.clone(),
        user_id: session.user_id.clone(),
        claims: claims(&session.claims),
        impersonate_session_id: session.impersonate_session_id.clone(),
        ..Default::default()
    };
    (
        session.id.clone(),
        Arc::new(SessionEntry {
            version: 1,
            server_version: 1,
            session: message,
        }),
    )
}

fn user(user: &User) -> (String, Arc<UserEntry>) {
    let message = pb::user::User {
        id: user.id.clone(),
        email: user.email.clone(),
        claims: claims(&user.claims),
        ..Default::default()
    };
    (
        user.id.clone(),
        Arc::new(UserEntry {
            version: 1,
            server_version: 1,
            user: message,
        }),
    )
}

fn claims(claims: &HashMap<String, Vec<Value>>) -> HashMap<String, prost_types::ListValue> {
    let list = |values: &Vec<Value>| prost_types::ListValue {
        values: values.iter().map(value).collect(),
    };
    claims
        .iter()
        .map(|(name, values)| (name.clone(), list(values)))
        .collect()
}

fn value(value: &Value) -> prost_types::Value {
    let list = |values: &Vec<Value>| prost_types::ListValue {
        values: values.iter().map(self::value).collect(),
    };
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(list(values)),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), self::value(value)))
                .collect();
            Kind::StructValue(prost_types::Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}
