//! What a policy looks at: one request and who sent it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::certificate::ClientCertificate;

/// The type of records of sessions.
pub(crate) const SESSION: &str = "type.googleapis.com/session.Session";

/// Flattened claims: dotted name to list of values.
pub type Claims = HashMap<String, Vec<Value>>;

/// The person or machine behind a request; there is one exactly when a session or service account record
/// stands behind the request (spec policy.md 6.3).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subject {
    /// Id of the (impersonated) session or service account record.
    pub session_id: String,
    /// User id; empty when the record has none.
    pub user_id: String,
    /// Effective e-mail: of the directory user if it has one, else of the user record, else empty.
    pub email: String,
    /// Claims of the session overlaid by those of the user record: for one name, the user's values win.
    pub claims: Claims,
    /// The groups the person is in.
    pub groups: Groups,
    /// The devices this session has shown, in the order it showed them.
    pub devices: Vec<Device>,
    /// When and how the person signed in.
    pub authentication: Authentication,
}

/// Groups and where they were read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Groups {
    /// Where from.
    pub source: GroupSource,
    /// The groups, in the order of the source.
    pub all: Vec<Group>,
}

/// Where groups were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GroupSource {
    /// Nothing is known: neither does the directory know the person, nor does a claim name groups.
    #[default]
    Unknown,
    /// The directory record of the user; it counts even when it names no group.
    Directory,
    /// The claim that stands in where there is no directory record.
    Claim,
}

impl GroupSource {
    /// For logs and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            GroupSource::Unknown => "unknown",
            GroupSource::Directory => "directory",
            GroupSource::Claim => "claim",
        }
    }
}

/// One group. Groups of a claim have an id only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Id.
    pub id: String,
    /// Name, empty when the group has no record or no name.
    pub name: String,
    /// E-mail, likewise.
    pub email: String,
}

/// A device credential of a session, with what its records say (spec policy.md 4, authentication.md 16.4).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Device type, such as `any`.
    pub type_id: String,
    /// Id of the credential record; `None` when there is no such record.
    pub credential_id: Option<String>,
    /// Who approved the enrollment, empty while nobody has; `None` when there is no enrollment record.
    pub approved_by: Option<String>,
}

/// When and how somebody proved who they are, as the identity provider says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authentication {
    /// When; `None` is unknown, and never recent enough.
    pub at: Option<jiff::Timestamp>,
    /// Authentication context class (claim `acr`), empty when unknown.
    pub acr: String,
    /// Methods (claim `amr`, RFC 8176).
    pub amr: Vec<String>,
}

impl Subject {
    /// The user id, unless it is empty.
    pub fn user(&self) -> Option<&str> {
        (!self.user_id.is_empty()).then_some(self.user_id.as_str())
    }

    /// The domain of the e-mail. An address without exactly one `@`, or with nothing on either side of it,
    /// has no domain: `a@good.example@evil.example` is in neither.
    pub fn domain(&self) -> Option<&str> {
        let (local, domain) = self.email.split_once('@')?;
        (!local.is_empty() && !domain.is_empty() && !domain.contains('@')).then_some(domain)
    }

    /// The values of a claim; none when it is absent.
    pub fn claim(&self, name: &str) -> &[Value] {
        self.claims.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Request headers by name.
pub trait HeaderLookup {
    /// The value of a header, name in any case. Repeated headers come joined with `,`, in order: a
    /// criterion never sees only the first or the last.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;

    /// Shows every header once: its name in lower case, and its value as [`HeaderLookup::get`] gives it.
    fn each(&self, show: &mut dyn FnMut(&str, &str));
}

/// A request without headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn get(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn each(&self, _show: &mut dyn FnMut(&str, &str)) {}
}

/// The facts of an HTTP request (spec policy.md 6.1), all from the one canonical request.
#[derive(Clone, Copy)]
pub struct HttpInput<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// Path, percent-decoded, without query.
    pub path: &'a str,
    /// Path, still escaped.
    pub raw_path: &'a str,
    /// Query without `?`, empty when there is none.
    pub query: &'a str,
    /// `host[:port]`.
    pub host: &'a str,
    /// Headers.
    pub headers: &'a dyn HeaderLookup,
    /// Address of the client after the trusted-proxy rules; unknown matches no network.
    pub client_ip: Option<IpAddr>,
    /// The client certificate.
    pub client_certificate: ClientCertificate<'a>,
}

/// The facts of an SSH login (spec policy.md 6.1).
#[derive(Debug, Clone, Copy)]
pub struct SshInput<'a> {
    /// Name to log in as.
    pub username: &'a str,
    /// Public key or certificate offered, in wire format; empty when there is none.
    pub public_key: &'a [u8],
}

/// The facts of a request to an MCP server (spec policy.md 18).
#[derive(Debug, Clone, Copy)]
pub struct McpInput<'a> {
    /// JSON-RPC method.
    pub method: &'a str,
    /// Name of the tool for `tools/call`; `None` when it is another method.
    pub tool: Option<&'a str>,
}

/// Records beyond those of the subject, such as external data. No I/O.
pub trait RecordLookup: Send + Sync {
    /// The record of `kind` with this id, as JSON.
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>>;

    /// Whether records of `kind` are looked up by address: at least one of them has a network (`$index.cidr`).
    fn has_networks(&self, kind: &str) -> bool;

    /// The record of `kind` with the smallest network (`$index.cidr`) that contains `address`, as JSON.
    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<Value>>;

    /// The same records, held by the caller: custom Rego keeps them for the length of one evaluation.
    fn owned(&self) -> Arc<dyn RecordLookup>;
}

/// No records.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRecords;

impl RecordLookup for NoRecords {
    fn by_id(&self, _kind: &str, _id: &str) -> Option<Arc<Value>> {
        None
    }

    fn has_networks(&self, _kind: &str) -> bool {
        false
    }

    fn by_address(&self, _kind: &str, _address: IpAddr) -> Option<Arc<Value>> {
        None
    }

    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(NoRecords)
    }
}

/// Everything one evaluation looks at. Start with [`Input::new`].
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Who asks; absent when nobody is signed in.
    pub subject: Option<&'a Subject>,
    /// What is asked.
    pub http: HttpInput<'a>,
    /// The scheme the client used, `https` unless set.
    pub scheme: &'a str,
    /// The login, when it is one by SSH.
    pub ssh: Option<SshInput<'a>>,
    /// The call, when it is one to an MCP server.
    pub mcp: Option<McpInput<'a>>,
    /// Further records.
    pub records: &'a dyn RecordLookup,
    /// When.
    pub now: jiff::Timestamp,
}

impl<'a> Input<'a> {
    /// An HTTP request, without further records.
    pub fn new(subject: Option<&'a Subject>, http: HttpInput<'a>, now: jiff::Timestamp) -> Self {
        Self {
            subject,
            http,
            scheme: "https",
            ssh: None,
            mcp: None,
            records: &NoRecords,
            now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(email: &str) -> Option<String> {
        Subject {
            email: email.into(),
            ..Subject::default()
        }
        .domain()
        .map(str::to_owned)
    }

    #[test]
    fn a_domain_needs_exactly_one_at_with_something_on_both_sides() {
        assert_eq!(domain("a@example.com").as_deref(), Some("example.com"));
        for bad in [
            "",
            "a",
            "a@",
            "@example.com",
            "a@example.com@evil.example",
            "a@@example.com",
            "@",
        ] {
            assert_eq!(domain(bad), None, "{bad}");
        }
    }
}
