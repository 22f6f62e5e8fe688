//! The facts that a decision was made from, as they are logged and read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use pomerium_policy::{
    Authentication, CertificateFacts, CertificateTrust, ClientCertificate, Device, Group, GroupSource,
    Groups, Subject,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything a policy of the time of the record could look at, except what is listed under `claims` and `records`:
/// of those only what the policy in force looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The path as policies see it.
    pub(super) path: String,
    /// Header `Origin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
    /// Header `Access-Control-Request-Method`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access_control_request_method: Option<String>,
    /// Who asked; absent when nobody was signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Person>,
    /// The client certificate; absent when no rule looked at it, and it was not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<Certificate>,
    /// The login, when it was one by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ssh: Option<Ssh>,
    /// The call, when it was one to an MCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mcp: Option<Mcp>,
    /// The further records that were looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) records: Vec<LookedUp>,
}

/// The person or machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Person {
    pub(super) session_id: String,
    pub(super) user_id: String,
    pub(super) email: String,
    /// Claims that a rule looked at; an empty list is a claim that was not there.
    pub(super) claims: BTreeMap<String, Vec<Value>>,
    pub(super) groups: LoggedGroups,
    pub(super) devices: Vec<LoggedDevice>,
    pub(super) authentication: LoggedAuthentication,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LoggedGroups {
    /// `directory`, `claim` or `unknown`.
    pub(super) source: String,
    pub(super) all: Vec<LoggedGroup>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LoggedGroup {
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) email: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LoggedDevice {
    pub(super) type_id: String,
    pub(super) credential_id: Option<String>,
    pub(super) approved_by: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LoggedAuthentication {
    pub(super) at: Option<Timestamp>,
    pub(super) acr: String,
    pub(super) amr: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Certificate {
    pub(super) presented: bool,
    /// `no authority`, `valid` or `not valid`.
    pub(super) trust: String,
    pub(super) leaf: Option<Leaf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Leaf {
    pub(super) fingerprint: String,
    pub(super) spki_hash: String,
    pub(super) dns_names: Vec<String>,
    pub(super) emails: Vec<String>,
    pub(super) uris: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ssh {
    pub(super) username: String,
    /// Base64 of the wire format.
    pub(super) public_key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mcp {
    pub(super) method: String,
    pub(super) tool: Option<String>,
}

/// A record beyond those of the subject, and how it was asked for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub(super) struct LookedUp {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// `id` or `address`.
    pub(super) by: By,
    pub(super) key: String,
    /// Null when there was none.
    pub(super) record: Option<Arc<Value>>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    Id,
    Address,
}

impl Person {
    /// `claims` are the names that a rule looks at.
    pub(super) fn of<'n>(subject: &Subject, claims: impl Iterator<Item = &'n str>) -> Self {
        let group = |group: &Group| LoggedGroup {
            id: group.id.clone(),
            name: group.name.clone(),
            email: group.email.clone(),
        };
        let device = |device: &Device| LoggedDevice {
            type_id: device.type_id.clone(),
            credential_id: device.credential_id.clone(),
            approved_by: device.approved_by.clone(),
        };
        Self {
            session_id: subject.session_id.clone(),
            user_id: subject.user_id.clone(),
            email: subject.email.clone(),
            claims: claims
                .map(|name| (name.to_owned(), subject.claim(name).to_vec()))
                .collect(),
            groups: LoggedGroups {
                source: subject.groups.source.as_str().to_owned(),
                all: subject.groups.all.iter().map(group).collect(),
            },
            devices: subject.devices.iter().map(device).collect(),
            authentication: LoggedAuthentication {
                at: subject.authentication.at,
                acr: subject.authentication.acr.clone(),
                amr: subject.authentication.amr.clone(),
            },
        }
    }

    /// Back to what policies look at. `None` when a word is not one of ours.
    pub(super) fn subject(&self) -> Option<Subject> {
        let source = [GroupSource::Directory, GroupSource::Claim, GroupSource::Unknown]
            .into_iter()
            .find(|source| source.as_str() == self.groups.source)?;
        let group = |group: &LoggedGroup| Group {
            id: group.id.clone(),
            name: group.name.clone(),
            email: group.email.clone(),
        };
        let device = |device: &LoggedDevice| Device {
            type_id: device.type_id.clone(),
            credential_id: device.credential_id.clone(),
            approved_by: device.approved_by.clone(),
        };
        let claims = self.claims.iter().filter(|(_, values)| !values.is_empty());
        Some(Subject {
            session_id: self.session_id.clone(),
            user_id: self.user_id.clone(),
            email: self.email.clone(),
            claims: claims
                .map(|(name, values)| (name.clone(), values.clone()))
                .collect(),
            groups: Groups {
                source,
                all: self.groups.all.iter().map(group).collect(),
            },
            devices: self.devices.iter().map(device).collect(),
            authentication: Authentication {
                at: self.authentication.at,
                acr: self.authentication.acr.clone(),
                amr: self.authentication.amr.clone(),
            },
        })
    }
}

impl Certificate {
    pub(super) fn of(certificate: &ClientCertificate<'_>) -> Self {
        Self {
            presented: certificate.presented,
            trust: certificate.trust.as_str().to_owned(),
            leaf: certificate.leaf.map(|leaf| Leaf {
                fingerprint: leaf.fingerprint.clone(),
                spki_hash: leaf.spki_hash.clone(),
                dns_names: leaf.dns_names.clone(),
                emails: leaf.emails.clone(),
                uris: leaf.uris.clone(),
            }),
        }
    }

    /// What the authorities said. `None` when the word is not one of ours.
    pub(super) fn trust(&self) -> Option<CertificateTrust> {
        [
            CertificateTrust::NoAuthority,
            CertificateTrust::Verified,
            CertificateTrust::Rejected,
        ]
        .into_iter()
        .find(|trust| trust.as_str() == self.trust)
    }
}

impl From<&Leaf> for CertificateFacts {
    fn from(leaf: &Leaf) -> Self {
        Self {
            fingerprint: leaf.fingerprint.clone(),
            spki_hash: leaf.spki_hash.clone(),
            dns_names: leaf.dns_names.clone(),
            emails: leaf.emails.clone(),
            uris: leaf.uris.clone(),
            // Only scripts look at the certificate itself, and those are not judged from a log.
            ..Self::default()
        }
    }
}
