//! Logins over SSH: which name, with which key (spec policy.md 4, 17).

use serde_json::Value;

use super::read;
use crate::compile::CompileError;
use crate::input::{Input, Subject};
use crate::ppl::Criterion;
use crate::ssh::{CertificateCheck, CertificateProblem, PublicKey, check_user_certificate};

/// The name to log in as; empty on what is no login over SSH.
pub(super) fn username<'a>(input: &Input<'a>) -> &'a str {
    input.ssh.map_or("", |ssh| ssh.username)
}

/// Whether the name is the part of the e-mail before the first `@`. No name is nobody's.
pub(super) fn is_local_part(input: &Input<'_>, subject: &Subject) -> bool {
    let name = username(input);
    !name.is_empty() && subject.email.split('@').next() == Some(name)
}

/// Whether the name is one of the values of a claim.
pub(super) fn is_in_claim(input: &Input<'_>, subject: &Subject, claim: &str) -> bool {
    let name = username(input);
    !name.is_empty()
        && subject
            .claim(claim)
            .iter()
            .any(|value| value.as_str() == Some(name))
}

/// Keys of a policy.
#[derive(Debug)]
pub(crate) struct Keys(Box<[PublicKey]>);

impl Keys {
    /// One key or a list of them.
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        let texts = read::strings(criterion, "", &criterion.data)?;
        let keys: Result<_, _> = texts
            .into_iter()
            .map(|text| PublicKey::parse(text).map_err(|problem| bad_key(criterion, text, &problem)))
            .collect();
        keys.map(Self)
    }

    /// The same for keys that sign certificates, among which there are no certificates.
    pub(super) fn read_authorities(criterion: &Criterion) -> Result<Self, CompileError> {
        let keys = Self::read(criterion)?;
        if keys.0.iter().any(PublicKey::is_certificate) {
            let problem = "a certificate cannot sign certificates: give the public key of the authority";
            return Err(read::bad_value(criterion, "", "", problem));
        }
        Ok(keys)
    }

    pub(super) fn list(&self, input: &Input<'_>) -> bool {
        let offered = input.ssh.map_or(&[][..], |ssh| ssh.public_key);
        self.0.iter().any(|key| key.blob() == offered)
    }

    pub(super) fn signed(&self, input: &Input<'_>) -> Result<(), CertificateProblem> {
        let ssh = input.ssh.ok_or(CertificateProblem::Malformed)?;
        let check = CertificateCheck {
            principal: ssh.username,
            now: input.now,
            address: input.http.client_ip,
        };
        check_user_certificate(ssh.public_key, &self.0, check)
    }
}

fn bad_key(criterion: &Criterion, text: &str, problem: &crate::ssh::KeyProblem) -> CompileError {
    // The text may be a secret: its beginning shows which one is meant.
    let start: String = text.chars().take(24).collect();
    let start = if start.len() < text.len() {
        format!("{start}…")
    } else {
        start
    };
    read::bad_value(criterion, "", &start, &problem.to_string())
}

/// The type of the key that is offered and, for authorities, why it does not count.
pub(super) fn offered(input: &Input<'_>, problem: Option<CertificateProblem>) -> Value {
    let Some(ssh) = input.ssh.filter(|ssh| !ssh.public_key.is_empty()) else {
        return Value::Null;
    };
    let key = PublicKey::from_wire(ssh.public_key);
    serde_json::json!({
        "username": ssh.username,
        "type": key.as_ref().map(PublicKey::kind),
        "problem": problem.map(|problem| problem.to_string()),
    })
}
