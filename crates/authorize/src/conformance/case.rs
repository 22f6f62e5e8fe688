//! The form of a case. Unknown keys anywhere are errors.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use pomerium_policy::RouteRules;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    #[serde(rename = "name")]
    pub(super) _name: String,
    /// `null` is a policy, though a wrong one.
    #[serde(default, deserialize_with = "present")]
    pub(super) policy: Option<Value>,
    pub(super) policy_yaml: Option<String>,
    /// Settings of a route, or the name of one in the configuration.
    #[serde(default, deserialize_with = "route")]
    pub(super) route: Option<RouteOfCase>,
    #[serde(default)]
    pub(super) input: Input,
    pub(super) expect: Expect,
    #[serde(default, rename = "unsure")]
    pub(super) _unsure: bool,
    #[serde(default, rename = "enterprise")]
    pub(super) _enterprise: bool,
    #[serde(rename = "deviation")]
    pub(super) _deviation: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Where the policy of a case comes from, beside the case itself.
pub(super) enum RouteOfCase {
    /// A route of the configuration.
    Named(String),
    /// These settings.
    Settings(Route),
}

/// Told apart by hand, so that a mistake in the settings is named.
fn route<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RouteOfCase>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(name) => Ok(Some(RouteOfCase::Named(name))),
        settings => Route::deserialize(settings)
            .map(|route| Some(RouteOfCase::Settings(route)))
            .map_err(serde::de::Error::custom),
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "the switches of a route")]
pub(super) struct Route {
    allow_public_unauthenticated_access: bool,
    cors_allow_preflight: bool,
    allow_any_authenticated_user: bool,
    allowed_domains: Vec<String>,
    allowed_idp_claims: BTreeMap<String, Vec<Value>>,
    allowed_users: Vec<String>,
}

impl Route {
    pub(super) fn rules(&self) -> RouteRules {
        RouteRules {
            public: self.allow_public_unauthenticated_access,
            cors_allow_preflight: self.cors_allow_preflight,
            any_authenticated_user: self.allow_any_authenticated_user,
            allowed_domains: self.allowed_domains.clone(),
            allowed_idp_claims: self.allowed_idp_claims.clone(),
            allowed_users: self.allowed_users.clone(),
            client_certificate: false,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Input {
    pub(super) session: Option<Session>,
    pub(super) other_sessions: Vec<Session>,
    pub(super) service_account: Option<ServiceAccount>,
    pub(super) user: Option<User>,
    pub(super) users: Vec<User>,
    pub(super) http: Http,
    pub(super) default_client_certificate_rule: bool,
    pub(super) time: Option<jiff::Timestamp>,
    pub(super) tls: Option<Tls>,
    pub(super) client_ca_configured: bool,
    /// Free objects with an `id`.
    pub(super) directory_user: Option<Value>,
    pub(super) directory_users: Vec<Value>,
    pub(super) directory_groups: Vec<Value>,
    pub(super) devices: Devices,
    pub(super) ssh: Option<Ssh>,
    pub(super) mcp: Option<Mcp>,
    /// Ours: records beyond those of the person.
    pub(super) records: Vec<Record>,
}

/// A login over SSH.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ssh {
    pub(super) username: String,
    /// Wire format in base64.
    pub(super) publickey: Option<String>,
}

/// A parsed request to an MCP server.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mcp {
    #[serde(rename = "id")]
    pub(super) _id: Option<Value>,
    /// Makes the route one of an MCP server.
    pub(super) method: Option<String>,
    pub(super) tool_call: Option<ToolCall>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ToolCall {
    pub(super) name: Option<String>,
    #[serde(rename = "arguments")]
    pub(super) _arguments: Option<Value>,
}

impl Mcp {
    pub(super) fn method(&self) -> Option<&str> {
        self.method.as_deref().filter(|method| !method.is_empty())
    }
}

/// A free object of outside data.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: String,
    /// With `$index.cidr` it is looked up by address.
    pub(super) data: Value,
}

/// Devices that are enrolled.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Devices {
    pub(super) credentials: Vec<Credential>,
    pub(super) enrollments: Vec<Enrollment>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Credential {
    pub(super) id: String,
    pub(super) type_id: String,
    pub(super) enrollment_id: String,
    pub(super) user_id: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Enrollment {
    pub(super) id: String,
    pub(super) approved_by: String,
    pub(super) user_id: String,
}

/// A device that a session has shown.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ShownDevice {
    pub(super) type_id: String,
    pub(super) id: String,
}

/// The client certificate of the connection.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) presented: bool,
    /// Key into the certificates of the file.
    pub(super) leaf: Option<String>,
    pub(super) valid: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) claims: HashMap<String, Vec<Value>>,
    pub(super) impersonate_session_id: Option<String>,
    pub(super) device_credentials: Vec<ShownDevice>,
    /// Ours: when the session began.
    pub(super) issued_at: Option<jiff::Timestamp>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServiceAccount {
    pub(super) id: String,
    pub(super) user_id: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) email: String,
    pub(super) claims: HashMap<String, Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) host: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) ip: Option<IpAddr>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            host: "app.example.com".into(),
            method: "GET".into(),
            path: "/".into(),
            headers: HashMap::from([("Accept".into(), "text/html".into())]),
            ip: Some(IpAddr::from([203, 0, 113, 7])),
        }
    }
}

/// What is expected; only what is given is compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) error: Option<Stage>,
    pub(super) allow: Option<bool>,
    pub(super) deny: Option<bool>,
    pub(super) reasons: Option<Vec<String>>,
    pub(super) allow_reasons: Option<Vec<String>>,
    pub(super) deny_reasons: Option<Vec<String>>,
    pub(super) http_status: Option<u16>,
    pub(super) upstream: Option<bool>,
    pub(super) redirect: Option<String>,
}

/// Where a policy is refused. `generate` and `compile` are one step here.
#[derive(Debug, Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    Parse,
    Generate,
    Compile,
}
