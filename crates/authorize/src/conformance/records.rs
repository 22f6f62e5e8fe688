//! The records of a case, as the real lookups see them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use pomerium_api::databroker::Versions;
use pomerium_api::pb::session::session::{DeviceCredential, device_credential};
use pomerium_api::synced::{
    Confirmed, CredentialEntry, EnrollmentEntry, Entry, Parts, ServiceAccountEntry, SessionEntry,
    StructEntry, UserEntry,
};
use pomerium_api::{json, pb};
use pomerium_policy::RecordLookup;
use serde_json::Value;

use super::case::{Credential, Enrollment, Input, Record, Session, ShownDevice, User};
use crate::principal::Principal;
use crate::session::Records;

/// Records by id.
pub(super) struct CaseRecords {
    sessions: HashMap<String, Arc<SessionEntry>>,
    users: HashMap<String, Arc<UserEntry>>,
    account: Option<Arc<ServiceAccountEntry>>,
    directory_users: HashMap<String, Arc<StructEntry>>,
    directory_groups: HashMap<String, Arc<StructEntry>>,
    credentials: HashMap<String, Arc<CredentialEntry>>,
    enrollments: HashMap<String, Arc<EnrollmentEntry>>,
}

/// Where every record of a case stands.
const AT: Versions = Versions {
    server_version: 1,
    latest_record_version: 1,
};

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

    fn directory_user(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.directory_users.get(id).cloned()
    }

    fn directory_group(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.directory_groups.get(id).cloned()
    }

    fn device_credential(&self, id: &str) -> Option<Arc<CredentialEntry>> {
        self.credentials.get(id).cloned()
    }

    fn device_enrollment(&self, id: &str) -> Option<Arc<EnrollmentEntry>> {
        self.enrollments.get(id).cloned()
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
                confirmed: Confirmed::default(),
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
            directory_users: input
                .directory_user
                .iter()
                .chain(&input.directory_users)
                .map(free_object)
                .collect(),
            directory_groups: input.directory_groups.iter().map(free_object).collect(),
            credentials: input.devices.credentials.iter().map(credential).collect(),
            enrollments: input.devices.enrollments.iter().map(enrollment).collect(),
        }
    }

    /// Who asks: the service account, else the session.
    pub(super) fn principal(&self, input: &Input) -> Option<Principal> {
        // The cases know no groups but those of the directory.
        let groups_claim = Arc::from("");
        if let Some(account) = &self.account {
            return Some(Principal::of_account(self, Arc::clone(account), &groups_claim));
        }
        let own = self.session(&input.session.as_ref()?.id)?;
        Principal::of_session(self, own, &groups_claim).ok()
    }
}

/// The records beyond those of the person.
#[derive(Clone)]
pub(super) struct Outside(Arc<[Known]>);

struct Known {
    record: Record,
    network: Option<IpNet>,
    data: Arc<Value>,
}

impl Outside {
    pub(super) fn new(input: &Input) -> Self {
        let record = |record: &Record| {
            let cidr = record.data.pointer("/$index/cidr").and_then(Value::as_str);
            let network = cidr.and_then(|cidr| cidr.parse().ok());
            Known {
                record: record.clone(),
                network,
                data: Arc::new(record.data.clone()),
            }
        };
        Self(input.records.iter().map(record).collect())
    }
}

impl RecordLookup for Outside {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        let mut all = self.0.iter();
        all.find(|known| known.record.kind == kind && known.record.id == id)
            .map(|known| Arc::clone(&known.data))
    }

    fn has_networks(&self, kind: &str) -> bool {
        self.0
            .iter()
            .any(|known| known.record.kind == kind && known.network.is_some())
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>> {
        let around = self.0.iter().filter_map(|known| {
            let network = known.network.filter(|network| network.contains(&address))?;
            (known.record.kind == kind).then_some((network.prefix_len(), &known.data))
        });
        around
            .max_by_key(|(length, _)| *length)
            .map(|(_, data)| Arc::clone(data))
    }

    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(self.clone())
    }
}

fn session(session: &Session) -> (String, Arc<SessionEntry>) {
    let message = pb::session::Session {
        id: session.id.clone(),
        user_id: session.user_id.clone(),
        claims: claims(&session.claims),
        impersonate_session_id: session.impersonate_session_id.clone(),
        device_credentials: session.device_credentials.iter().map(shown).collect(),
        issued_at: session.issued_at.map(|at| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
        ..Default::default()
    };
    (
        session.id.clone(),
        Arc::new(SessionEntry {
            version: 1,
            server_version: 1,
            session: message,
            confirmed: Confirmed::default(),
            left_out: Parts::NONE,
        }),
    )
}

fn shown(device: &ShownDevice) -> DeviceCredential {
    DeviceCredential {
        type_id: device.type_id.clone(),
        credential: Some(device_credential::Credential::Id(device.id.clone())),
    }
}

fn free_object(data: &Value) -> (String, Arc<StructEntry>) {
    let id = data.get("id").and_then(Value::as_str).unwrap_or_default();
    let at = (AT.server_version, AT.latest_record_version);
    (id.to_owned(), Arc::new(StructEntry::new(id, at, data.clone(), 0)))
}

fn credential(credential: &Credential) -> (String, Arc<CredentialEntry>) {
    let message = pb::device::Credential {
        id: credential.id.clone(),
        type_id: credential.type_id.clone(),
        enrollment_id: credential.enrollment_id.clone(),
        user_id: credential.user_id.clone(),
        ..Default::default()
    };
    (credential.id.clone(), Arc::new(CredentialEntry::new(AT, message)))
}

fn enrollment(enrollment: &Enrollment) -> (String, Arc<EnrollmentEntry>) {
    let message = pb::device::Enrollment {
        id: enrollment.id.clone(),
        approved_by: enrollment.approved_by.clone(),
        user_id: enrollment.user_id.clone(),
        ..Default::default()
    };
    (enrollment.id.clone(), Arc::new(EnrollmentEntry::new(AT, message)))
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
            confirmed: Confirmed::default(),
        }),
    )
}

fn claims(claims: &HashMap<String, Vec<Value>>) -> HashMap<String, prost_types::ListValue> {
    let list = |values: &Vec<Value>| prost_types::ListValue {
        values: values.iter().map(json::to_value).collect(),
    };
    claims
        .iter()
        .map(|(name, values)| (name.clone(), list(values)))
        .collect()
}
