//! What a criterion looked at, for explanations. Nothing here decides anything.

use serde_json::{Value, json};

use super::{Test, ssh};
use crate::input::{Input, Subject};

impl Test {
    /// The part of the input that [`Test::run`] looks at; null when there is no such part.
    pub(crate) fn looks_at(&self, input: &Input<'_>) -> Value {
        match self {
            Test::Accept | Test::Reject => Value::Null,
            Test::HttpMethod(_) => input.http.method.into(),
            Test::HttpPath(_) => input.http.path.into(),
            Test::SourceIp(_) => input
                .http
                .client_ip
                .map_or(Value::Null, |address| address.to_canonical().to_string().into()),
            Test::CorsPreflight => json!({
                "method": input.http.method,
                "origin": input.http.headers.get("origin"),
                "access-control-request-method": input.http.headers.get("access-control-request-method"),
            }),
            Test::ClientCertificate(_) | Test::InvalidClientCertificate => {
                let certificate = &input.http.client_certificate;
                json!({
                    "presented": certificate.presented,
                    "trust": certificate.trust.as_str(),
                    "fingerprint": certificate.leaf.map(|leaf| &leaf.fingerprint),
                })
            }
            Test::McpTool(_) => input
                .mcp
                .map_or(Value::Null, |mcp| json!({"method": mcp.method, "tool": mcp.tool})),
            Test::SshUsername(_) => input.ssh.map_or(Value::Null, |ssh| ssh.username.into()),
            Test::SshPublicKey(_) => ssh::offered(input, None),
            Test::SshCa(authorities) => ssh::offered(input, authorities.signed(input).err()),
            Test::Date(_) => input.now.to_string().into(),
            Test::DayOfWeek(days) => days.today(input.now).into(),
            Test::TimeOfDay(hours) => hours.local(input.now).to_string().into(),
            Test::Record(matcher) => matcher.found(input),
            _ => input
                .subject
                .map_or(Value::Null, |subject| self.looks_at_subject(subject, input)),
        }
    }

    fn looks_at_subject(&self, subject: &Subject, input: &Input<'_>) -> Value {
        match self {
            Test::AuthenticatedUser | Test::User(_) => json!(subject.user()),
            Test::Email(_) => subject.email.as_str().into(),
            Test::Domain(_) => json!(subject.domain()),
            Test::Claim(claim) => Value::Array(subject.claim(&claim.0).to_vec()),
            Test::Groups(matcher) => json!({
                "source": subject.groups.source.as_str(),
                "groups": matcher.values(subject),
            }),
            Test::Device(matcher) => matcher.shown(subject).map_or(Value::Null, |device| {
                json!({
                    "type": device.type_id,
                    "credential": device.credential_id,
                    "approved_by": device.approved_by,
                })
            }),
            Test::Authentication(_) => json!({
                "at": subject.authentication.at.map(|at| at.to_string()),
                "acr": subject.authentication.acr,
                "amr": subject.authentication.amr,
            }),
            Test::SshUsernameMatchesEmail => {
                json!({"username": ssh::username(input), "email": subject.email})
            }
            Test::SshUsernameMatchesClaim(claim) => {
                json!({"username": ssh::username(input), "claim": subject.claim(claim)})
            }
            _ => Value::Null,
        }
    }
}
