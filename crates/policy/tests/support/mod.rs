//! One input that has something to say to every criterion, and criteria of every kind.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use pomerium_policy::{
    Authentication, CertificateFacts, CertificateTrust, ClientCertificate, Device, Group, GroupSource,
    Groups, HttpInput, Input, McpInput, NoHeaders, RecordLookup, SshInput, Subject,
};
use serde_json::{Value, json};

/// Criteria, each a map with one key. Every name of the language is among them.
pub const CRITERIA: &[fn() -> Value] = &[
    || json!({"accept": true}),
    || json!({"reject": true}),
    || json!({"authenticated_user": true}),
    || json!({"user": {"not": "u9"}}),
    || json!({"email": "user@example.com"}),
    || json!({"email": {"starts_with": "user", "not_in": ["x"]}}),
    || json!({"domain": "other.example"}),
    || json!({"claim/team": "platform"}),
    || json!({"claim/team": {"exclude": "platform"}}),
    || json!({"groups": "g2"}),
    || json!({"groups/name": {"is": "Platform"}}),
    || json!({"groups/email": "platform@example.com"}),
    || json!({"device": {"type": "any"}}),
    || json!({"device": {"type": "enclave_only"}}),
    || json!({"device": {"approved": true}}),
    || json!({"http_method": "GET"}),
    || json!({"http_path": {"contains": "admin"}}),
    || json!({"source_ip": ["10.0.0.0/8", "203.0.113.0/24"]}),
    || json!({"cors_preflight": true}),
    || json!({"client_certificate": {"san_dns": "a.example.com"}}),
    || json!({"invalid_client_certificate": true}),
    || json!({"mcp_tool": {"in": ["query"]}}),
    || json!({"ssh_username": "deploy"}),
    || json!({"ssh_username_matches_email": true}),
    || json!({"ssh_username_matches_claim": "unix"}),
    || json!({"ssh_publickey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSLYqqPbhEQ/pmgvUuKE9QcculRZbdXgrYGcER372s2"}),
    || json!({"ssh_ca": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSLYqqPbhEQ/pmgvUuKE9QcculRZbdXgrYGcER372s2"}),
    || json!({"date": {"after": "2026-01-01", "before": "2026-06-01T08:00:00", "timezone": "Europe/Paris"}}),
    || json!({"day_of_week": {"is": "fri-mon", "timezone": "America/New_York"}}),
    || json!({"time_of_day": {"timezone": "Asia/Kolkata", "after": "8:00 AM"}}),
    || json!({"authentication": {"max_age": "1h"}}),
    || json!({"authentication": {"acr": "gold", "amr": ["mfa"]}}),
    || json!({"record": {"type": "hr", "field": "level", ">": 3}}),
    || json!({"record": {"type": "hr", "field": "place.city", "starts_with": "P"}}),
    || json!({"record": {"type": "geoip", "field": "country", "in": ["FR"]}}),
    || json!({"record": {"type": "crm", "exists": false, "by": "user.email"}}),
];

/// What is known about a request.
pub struct Facts {
    pub subject: Option<Subject>,
    pub records: Outside,
    pub leaf: CertificateFacts,
}

impl Facts {
    pub fn rich() -> Self {
        let group = |id: &str, name: &str, email: &str| Group {
            id: id.into(),
            name: name.into(),
            email: email.into(),
        };
        let subject = Subject {
            session_id: "s1".into(),
            user_id: "u1".into(),
            email: "user@example.com".into(),
            claims: HashMap::from([
                ("team".into(), vec![json!("platform")]),
                ("unix".into(), vec![json!("deploy")]),
            ]),
            groups: Groups {
                source: GroupSource::Directory,
                all: vec![
                    group("g1", "Platform", "platform@example.com"),
                    group("g2", "", ""),
                ],
            },
            devices: vec![Device {
                type_id: "any".into(),
                credential_id: Some("dc1".into()),
                approved_by: Some(String::new()),
            }],
            authentication: Authentication {
                at: "2026-01-15T11:30:00Z".parse().ok(),
                acr: "silver".into(),
                amr: vec!["mfa".into()],
            },
        };
        Self {
            subject: Some(subject),
            records: Outside {
                person: Arc::new(json!({"level": 7, "place": {"city": "Paris"}})),
                network: Arc::new(json!({"country": "FR"})),
            },
            leaf: CertificateFacts {
                dns_names: vec!["a.example.com".into()],
                ..CertificateFacts::default()
            },
        }
    }

    pub fn input(&self) -> Input<'_> {
        let http = HttpInput {
            method: "GET",
            path: "/",
            raw_path: "/",
            query: "",
            host: "app.example.com",
            headers: &NoHeaders,
            client_ip: Some([203, 0, 113, 7].into()),
            client_certificate: ClientCertificate {
                presented: true,
                leaf: Some(&self.leaf),
                trust: CertificateTrust::Verified,
            },
        };
        Input {
            ssh: Some(SshInput {
                username: "deploy",
                public_key: b"not a key",
            }),
            mcp: Some(McpInput {
                method: "tools/call",
                tool: Some("query"),
            }),
            records: &self.records,
            ..Input::new(
                self.subject.as_ref(),
                http,
                jiff::Timestamp::constant(1_768_478_400, 0),
            )
        }
    }
}

/// A record about the person and one about the network.
#[derive(Clone)]
pub struct Outside {
    person: Arc<Value>,
    network: Arc<Value>,
}

impl RecordLookup for Outside {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<Value>> {
        (kind == "hr" && id == "u1").then(|| Arc::clone(&self.person))
    }

    fn has_networks(&self, kind: &str) -> bool {
        kind == "geoip"
    }

    fn by_address(&self, kind: &str, _address: IpAddr) -> Option<Arc<Value>> {
        (kind == "geoip").then(|| Arc::clone(&self.network))
    }

    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(self.clone())
    }
}
