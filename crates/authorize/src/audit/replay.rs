//! A logged decision made again under another policy.

use pomerium_policy::{
    CertificateFacts, CertificateTrust, ClientCertificate, Denial, HeaderLookup, HttpInput, Input, McpInput,
    Program, SshInput,
};

use super::facts::{Facts, Ssh};
use super::needs::{self, Need};
use super::read;
use super::seen::Logged;
use crate::decision::{Decision, Outcome, check, grounds, route_not_found};

/// What came of judging again.
#[derive(Debug, Clone)]
pub enum Replayed {
    /// The same.
    Same,
    /// Something else.
    Differs {
        /// What it would come to now.
        decision: Decision,
        /// What decides now.
        grounds: Denial,
    },
    /// It cannot be told: what is missing in the log. Never empty.
    CannotJudge(Vec<String>),
}

/// What a decision comes to, in words: `denied 403`.
pub fn came_to(decision: &Decision) -> String {
    match decision.outcome {
        Outcome::Denied { status, .. } => format!("{} {status}", decision.came_to()),
        _ => decision.came_to().to_owned(),
    }
}

/// Judges a logged request by `program`, the policy of the route that would answer now; without one no route would.
pub fn judge(logged: &read::Decision, program: Option<&Program>) -> Replayed {
    let Some(program) = program else {
        let decision = route_not_found();
        let grounds = Denial {
            rule: "no route answers".into(),
            criteria: Vec::new(),
        };
        return compared(logged, decision, |_| grounds);
    };
    if logged.outcome == "error" {
        return Replayed::CannotJudge(vec!["who asked: the request could not be judged then".into()]);
    }
    let Some(facts) = &logged.inputs else {
        return Replayed::CannotJudge(vec!["the inputs (the stream was set to `inputs: false`)".into()]);
    };
    if let Some(script) = program.scripts().first() {
        let name = script.name();
        return Replayed::CannotJudge(vec![format!(
            "everything that the Rego policy {name} may look at"
        )]);
    }
    let missing = missing(program, facts);
    if !missing.is_empty() {
        return Replayed::CannotJudge(missing);
    }
    match Remade::new(facts) {
        Ok(remade) => remade.judge(logged, facts, program),
        Err(problem) => Replayed::CannotJudge(vec![problem]),
    }
}

fn compared(
    logged: &read::Decision,
    decision: Decision,
    grounds: impl FnOnce(&Decision) -> Denial,
) -> Replayed {
    if came_to(&decision) == logged.came_to() {
        Replayed::Same
    } else {
        Replayed::Differs {
            grounds: grounds(&decision),
            decision,
        }
    }
}

/// What `program` looks at that was not logged.
fn missing(program: &Program, facts: &Facts) -> Vec<String> {
    let mut missing = Vec::new();
    let mut add = |what: String| {
        if !missing.contains(&what) {
            missing.push(what);
        }
    };
    for (key, claim) in program.criteria() {
        match needs::of(key, claim) {
            // Nobody has no claims.
            Need::Claim(name) => {
                let person = facts.subject.as_ref();
                if person.is_some_and(|person| !person.claims.contains_key(name)) {
                    add(format!("the claim {name}"));
                }
            }
            Need::Certificate if facts.certificate.is_none() => add("the client certificate".into()),
            Need::Unknown => add(format!("what `{key}` looks at")),
            Need::Standard | Need::Certificate | Need::Records => {}
        }
    }
    missing
}

/// Facts back in the form that policies look at.
struct Remade {
    subject: Option<pomerium_policy::Subject>,
    leaf: Option<CertificateFacts>,
    trust: CertificateTrust,
    key: Vec<u8>,
}

impl Remade {
    /// Errors with what makes no sense.
    fn new(facts: &Facts) -> Result<Self, String> {
        let subject = match &facts.subject {
            Some(person) => Some(person.subject().ok_or("a source of groups that is known here")?),
            None => None,
        };
        let certificate = facts.certificate.as_ref();
        let trust = certificate.map(|certificate| {
            certificate
                .trust()
                .ok_or("a word about the client certificate that is known here")
        });
        let key = |ssh: &Ssh| pomerium_crypto::encoding::base64_decode(&ssh.public_key);
        Ok(Self {
            subject,
            leaf: certificate
                .and_then(|certificate| certificate.leaf.as_ref())
                .map(CertificateFacts::from),
            trust: trust.transpose()?.unwrap_or_default(),
            key: facts
                .ssh
                .as_ref()
                .map(key)
                .transpose()
                .map_err(|_| "the SSH key")?
                .unwrap_or_default(),
        })
    }

    fn judge(&self, logged: &read::Decision, facts: &Facts, program: &Program) -> Replayed {
        let records = Logged::new(&facts.records);
        let mut input = Input::new(self.subject.as_ref(), self.http(logged, facts), logged.time);
        input.records = &records;
        input.ssh = facts.ssh.as_ref().map(|ssh| SshInput {
            username: &ssh.username,
            public_key: &self.key,
        });
        input.mcp = facts.mcp.as_ref().map(|mcp| McpInput {
            method: &mcp.method,
            tool: mcp.tool.as_deref(),
        });
        let decision = check(program, &input);
        let missing = records.missing();
        if !missing.is_empty() {
            return Replayed::CannotJudge(missing);
        }
        compared(logged, decision, |decision| {
            grounds(&program.explain(&input), decision)
        })
    }

    fn http<'a>(&'a self, logged: &'a read::Decision, facts: &'a Facts) -> HttpInput<'a> {
        HttpInput {
            method: &logged.method,
            path: &facts.path,
            raw_path: &logged.path,
            query: "",
            host: &logged.host,
            headers: facts,
            client_ip: logged.source_ip,
            client_certificate: ClientCertificate {
                presented: facts
                    .certificate
                    .as_ref()
                    .is_some_and(|certificate| certificate.presented),
                leaf: self.leaf.as_ref(),
                trust: self.trust,
            },
        }
    }
}

impl HeaderLookup for Facts {
    fn get(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let value = match name {
            "origin" => self.origin.as_deref(),
            "access-control-request-method" => self.access_control_request_method.as_deref(),
            _ => None,
        };
        value.map(std::borrow::Cow::Borrowed)
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for name in ["access-control-request-method", "origin"] {
            if let Some(value) = self.get(name) {
                visit(name, &value);
            }
        }
    }
}
