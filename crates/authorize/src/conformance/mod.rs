//! Runs conformance cases for policies: JSON files of the form of `tests/cases/ppl.json`, which describes
//! itself under `format`.
//!
//! Each case goes the way of a request: the policy is read, merged with the route settings, compiled and
//! evaluated, records become a [`Principal`](crate::Principal), the decision is made by
//! [`check`](crate::check). Two things belong to other rooms and come in as an [`Edge`]: reading YAML, and
//! the form of the answer. Whatever a case says that is not understood makes it fail.

mod case;
mod judge;
mod records;

use std::collections::HashMap;

use http::request::Parts;
use pomerium_policy::CertificateFacts;
use serde::Deserialize;
use serde_json::Value;

use crate::decision::Decision;

/// What the rooms beside this one contribute to a case.
pub trait Edge {
    /// Reads YAML as the configuration loader does. Errors with what is wrong.
    fn yaml(&self, text: &str) -> Result<Value, String>;
    /// The percent-decoded path, as policies see it.
    fn decoded_path(&self, raw_path: &str) -> String;
    /// What a client is answered.
    fn reply(&self, decision: &Decision, request: &Parts) -> Reply;
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status sent to the client; 200 stands for what the upstream answers.
    pub status: u16,
    /// Whether the request reached the upstream.
    pub upstream: bool,
    /// Where a 302 leads: `login`.
    pub redirect: Option<&'static str>,
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
    /// Needs something this build lacks, by name. Not a pass.
    NotBuilt(String),
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
    let file: File = serde_json::from_str(text)?;
    let certificates = file.certificates.iter();
    let certificates = certificates
        .filter_map(|(name, pem)| Some((name.clone(), read_certificate(pem)?)))
        .collect();
    Ok(file
        .cases
        .into_iter()
        .map(|case| run_case(case, edge, &certificates))
        .collect())
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
