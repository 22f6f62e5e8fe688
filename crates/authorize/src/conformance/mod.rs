//! Runs cases for policies: files of the form of `tests/cases/ppl.json`, which describes itself under `format`. They
//! are the conformance cases of this project, and the ones that people keep beside their configuration.
//!
//! Each case goes the way of a request: the policy is read, merged with the route settings, compiled and
//! evaluated, records become a [`Principal`](crate::Principal), the decision is made by
//! [`check`](crate::check). Two things belong to other rooms and come in as an [`Edge`]: reading YAML, and
//! the form of the answer. Whatever a case says that is not understood makes it fail.
//!
//! Cases describe the original, which knows no groups but those of the directory: here no claim stands in for them
//! (as with `groups_claim` empty). Ours beside the form: `input.records`, a list of `{type, id, data}`, is what the
//! criterion `record` finds; `session.issued_at` is when the session began; `expect.redirect` may be `step-up`.

mod case;
mod judge;
mod records;

use std::collections::HashMap;

use http::request::Parts;
use pomerium_policy::explain::Tree;
use pomerium_policy::{CertificateFacts, Denial, Program};
use serde::Deserialize;
use serde_json::Value;

use crate::decision::Decision;

/// What the rooms beside this one contribute to a case.
pub trait Edge {
    /// Reads YAML as the configuration loader does. Errors with what is wrong.
    fn yaml(&self, text: &str) -> Result<Value, String>;
    /// The percent-decoded path, as policies see it.
    fn decoded_path(&self, raw_path: &str) -> String;
    /// What a client is answered; `mcp` says that the request is a parsed one to an MCP server.
    fn reply(&self, decision: &Decision, request: &Parts, mcp: bool) -> Reply;
    /// The policy of a route of the configuration. Errors with what is wrong with the name.
    fn route(&self, name: &str) -> Result<Program, String> {
        Err(format!(
            "the case names the route {name:?}, and no configuration was given: add --config FILE"
        ))
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status sent to the client; 200 stands for what the upstream answers.
    pub status: u16,
    /// Whether the request reached the upstream.
    pub upstream: bool,
    /// Where a 302 leads: `login`, `step-up` (a fresh login) or `webauthn`.
    pub redirect: Option<&'static str>,
}

/// A judgement in full.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The decision.
    pub decision: Decision,
    /// Every group and criterion.
    pub tree: Tree,
    /// Those that decided.
    pub grounds: Denial,
    /// What a client is answered.
    pub reply: Reply,
}

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub outcome: CaseOutcome,
    /// The expectation itself is not certain; counted apart.
    pub unsure: bool,
    /// About something the original has only in its enterprise edition; counted apart.
    pub enterprise: bool,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// As expected.
    Pass,
    /// Not as expected; each difference as one line.
    Fail(Vec<String>),
}

/// A case file. Unknown keys are an error of the whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "format")]
    _format: Option<Value>,
    /// PEM by name.
    #[serde(default)]
    certificates: HashMap<String, String>,
    cases: Vec<Value>,
}

/// Runs all cases of a file.
///
/// Errors when the text is not a case file; a case that makes no sense is a failed case.
pub fn run(text: &str, edge: &dyn Edge) -> Result<Vec<CaseResult>, serde_json::Error> {
    run_file(serde_json::from_str(text)?, edge)
}

/// As [`run`], of a file that was read already.
pub fn run_file(file: Value, edge: &dyn Edge) -> Result<Vec<CaseResult>, serde_json::Error> {
    let file: File = serde_json::from_value(file)?;
    let certificates = file.read_certificates();
    Ok(file
        .cases
        .into_iter()
        .map(|case| run_case(case, edge, &certificates))
        .collect())
}

/// Judges the input of the case called `name`, and tells how; what the case expects does not matter.
///
/// Errors with what is wrong with the file, the case or its policy.
pub fn explain(file: Value, name: &str, edge: &dyn Edge) -> Result<Explained, String> {
    let file: File = serde_json::from_value(file).map_err(|error| error.to_string())?;
    let certificates = file.read_certificates();
    let named = |case: &Value| case.get("name").and_then(Value::as_str) == Some(name);
    let mut case = file
        .cases
        .into_iter()
        .find(named)
        .ok_or_else(|| format!("there is no case with the name {name:?}"))?;
    if let Value::Object(case) = &mut case {
        case.insert("expect".into(), Value::Object(serde_json::Map::new()));
    }
    let case = serde_json::from_value::<case::Case>(case)
        .map_err(|error| format!("the case is not understood: {error}"))?;
    judge::explain(&case, edge, &certificates)
}

impl File {
    fn read_certificates(&self) -> Certificates {
        let certificates = self.certificates.iter();
        certificates
            .filter_map(|(name, pem)| Some((name.clone(), read_certificate(pem)?)))
            .collect()
    }
}

/// The certificates of a file, read.
type Certificates = HashMap<String, CertificateFacts>;

/// A name that no readable certificate stands under makes the case that uses it fail.
fn read_certificate(pem: &str) -> Option<CertificateFacts> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    CertificateFacts::read(&pomerium_crypto::encoding::base64_decode(&base64).ok()?)
}

fn run_case(case: Value, edge: &dyn Edge, certificates: &Certificates) -> CaseResult {
    let flag = |key: &str| case.get(key).and_then(Value::as_bool).unwrap_or(false);
    let name = case
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("(a case without a name)")
        .to_owned();
    let (unsure, enterprise) = (flag("unsure"), flag("enterprise"));
    let outcome = match serde_json::from_value::<case::Case>(case) {
        Ok(case) => judge::judge(&case, edge, certificates),
        Err(error) => CaseOutcome::Fail(vec![format!("the case is not understood: {error}")]),
    };
    CaseResult {
        name,
        outcome,
        unsure,
        enterprise,
    }
}

#[cfg(test)]
mod tests;
