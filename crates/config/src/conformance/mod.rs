//! Runs conformance cases for the configuration through the real loader: JSON files of the form of
//! `tests/cases/config.json`, which describes itself. An expectation that is not understood counts as failed.

mod lookup;
mod scratch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::diagnostic::{LoadErrors, Stage};
use crate::file_text::Text;
use crate::loader::{Loader, Outcome};
use crate::records::Records;
use scratch::Scratch;

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// As expected.
    Pass,
    /// Otherwise; one line per difference.
    Fail(Vec<String>),
    /// Otherwise, but the case says that its own expectation is a guess.
    Unsure(Vec<String>),
}

/// One case and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Name of the case.
    pub name: String,
    /// How it went.
    pub outcome: CaseOutcome,
}

/// All cases of a file.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of the file.
    pub cases: Vec<CaseResult>,
}

impl Report {
    /// How many passed, failed and are unsure.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&CaseOutcome) -> bool| self.cases.iter().filter(|case| is(&case.outcome)).count();
        (
            count(|outcome| *outcome == CaseOutcome::Pass),
            count(|outcome| matches!(outcome, CaseOutcome::Fail(_))),
            count(|outcome| matches!(outcome, CaseOutcome::Unsure(_))),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            let (word, lines) = match &case.outcome {
                CaseOutcome::Pass => continue,
                CaseOutcome::Fail(lines) => ("fail", lines),
                CaseOutcome::Unsure(lines) => ("unsure", lines),
            };
            writeln!(f, "{word} {}", case.name)?;
            for line in lines {
                writeln!(f, "    {line}")?;
            }
        }
        let (passed, failed, unsure) = self.counts();
        write!(f, "{passed} passed, {failed} failed, {unsure} unsure")
    }
}

/// Why a case file cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It is not a case file.
    #[error("not a case file: {0}")]
    Form(#[from] serde_json::Error),
    /// No folder for the files of the cases.
    #[error("cannot make a temporary folder: {0}")]
    Folder(#[from] std::io::Error),
}

#[derive(Deserialize)]
struct CaseFile {
    cases: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    config: Option<String>,
    #[serde(default)]
    env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    expect: Expect,
    #[serde(default)]
    stage: Option<String>,
    #[serde(default)]
    error_contains: Vec<String>,
    #[serde(default)]
    resolved: BTreeMap<String, Value>,
    #[serde(default)]
    logs_contain: Vec<String>,
    #[serde(default)]
    unsure: bool,
    #[serde(default, rename = "name")]
    _name: String,
    #[serde(default, rename = "note")]
    _note: String,
    #[serde(default, rename = "deviation")]
    _deviation: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Ok,
    Error,
}

/// Runs all cases of a file.
///
/// # Errors
/// When the text is no case file, or no temporary folder can be made.
pub fn run(text: &str) -> Result<Report, RunError> {
    let file: CaseFile = serde_json::from_str(text)?;
    let mut report = Report::default();
    for case in file.cases {
        let name = case
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("(no name)")
            .to_owned();
        let outcome = match serde_json::from_value::<Case>(case) {
            Ok(case) => judge(&case, &Scratch::new()?)?,
            Err(error) => CaseOutcome::Fail(vec![format!("not understood: {error}")]),
        };
        report.cases.push(CaseResult { name, outcome });
    }
    Ok(report)
}

fn judge(case: &Case, scratch: &Scratch) -> Result<CaseOutcome, RunError> {
    let (path, env) = prepare(case, scratch.path())?;
    let outcome = Loader::new(path.as_deref(), &env).run(Text::Anew, &Records::default());
    let mut differences = Vec::new();
    match case.expect {
        Expect::Ok => expect_ok(case, &outcome, &mut differences),
        Expect::Error => expect_error(case, &outcome, &mut differences),
    }
    let log = log_text(&outcome);
    for fragment in case
        .logs_contain
        .iter()
        .filter(|fragment| !log.contains(*fragment))
    {
        differences.push(format!("the log does not say \"{fragment}\"; it says: {log}"));
    }
    Ok(match (differences.is_empty(), case.unsure) {
        (true, _) => CaseOutcome::Pass,
        (false, true) => CaseOutcome::Unsure(differences),
        (false, false) => CaseOutcome::Fail(differences),
    })
}

/// Writes the files of the case; a case without file and environment means a file that is not there.
fn prepare(case: &Case, dir: &Path) -> std::io::Result<(Option<PathBuf>, BTreeMap<String, String>)> {
    for (name, content) in &case.files {
        std::fs::write(dir.join(name), content)?;
    }
    let path = match &case.config {
        Some(text) => {
            let path = dir.join(format!("config.{}", case.format.as_deref().unwrap_or("yaml")));
            std::fs::write(&path, text.replace("${DIR}", &dir.to_string_lossy()))?;
            Some(path)
        }
        None if case.env.is_none() => Some(dir.join("missing.yaml")),
        None => None,
    };
    let mut env = case.env.clone().unwrap_or_default();
    env.entry("DATA_DIR".into())
        .or_insert_with(|| dir.join("data").to_string_lossy().into_owned());
    Ok((path, env))
}

fn expect_ok(case: &Case, outcome: &Outcome, differences: &mut Vec<String>) {
    for error in outcome
        .sink
        .errors
        .iter()
        .filter(|error| error.stage == Stage::Load)
    {
        differences.push(format!("should load, but: {error}"));
    }
    let (Some(values), Some(settings)) = (&outcome.values, &outcome.settings) else {
        differences.push("nothing was resolved".into());
        return;
    };
    for (name, expected) in &case.resolved {
        match lookup::find(values, settings, name) {
            None => differences.push(format!("{name}: this expectation is not understood")),
            Some(found) if found != *expected => {
                differences.push(format!("{name}: expected {expected}, found {found}"));
            }
            Some(_) => {}
        }
    }
    if !case.error_contains.is_empty() || case.stage.is_some() {
        differences.push("a case that is ok cannot expect errors".into());
    }
}

fn expect_error(case: &Case, outcome: &Outcome, differences: &mut Vec<String>) {
    let stage = match case.stage.as_deref() {
        None | Some("load") => Stage::Load,
        Some("service start") => Stage::ServiceStart,
        Some("data plane build") => Stage::DataPlane,
        Some(other) => {
            differences.push(format!("unknown stage \"{other}\""));
            return;
        }
    };
    match outcome.sink.errors.iter().map(|error| error.stage).min() {
        None => differences.push("should fail, but loads".into()),
        Some(first) if first != stage => {
            differences.push(format!("should fail at {stage:?}, fails at {first:?}"))
        }
        Some(_) => {}
    }
    let text = chain(outcome);
    for fragment in case
        .error_contains
        .iter()
        .filter(|fragment| !text.contains(*fragment))
    {
        differences.push(format!("the error does not say \"{fragment}\"; it says: {text}"));
    }
    if !case.resolved.is_empty() {
        differences.push("a case that fails cannot expect values".into());
    }
}

/// Everything that is said about a load that failed, with its heading.
fn chain(outcome: &Outcome) -> String {
    let mut errors = LoadErrors {
        file: outcome.sink.file.clone(),
        errors: outcome.sink.errors.clone(),
        warnings: Vec::new(),
        watched_files: Vec::new(),
    };
    errors.sort();
    errors.to_string()
}

fn log_text(outcome: &Outcome) -> String {
    let lines = outcome.sink.warnings.iter().chain(&outcome.sink.errors);
    lines.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = include_str!("../../../../tests/cases/config.json");
    const MORE_CASES: &str = include_str!("../../../../tests/cases/config-more.json");

    #[test]
    fn all_cases_pass() {
        for (cases, least) in [(CASES, 120), (MORE_CASES, 440)] {
            let report = run(cases).unwrap();
            assert!(report.cases.len() >= least);
            assert_eq!(report.counts().1, 0, "{report}");
            assert_eq!(report.counts().2, 0, "{report}");
        }
    }

    fn outcome(case: &str) -> CaseOutcome {
        let mut report = run(&format!("{{\"cases\": [{case}]}}")).unwrap();
        report.cases.remove(0).outcome
    }

    #[test]
    fn what_is_not_understood_fails() {
        let unknown_field = r#"{"name": "a", "config": "{}\n", "expect": "ok", "surprise": 1}"#;
        assert!(matches!(outcome(unknown_field), CaseOutcome::Fail(_)));
        let unknown_entry = r#"{"name": "a", "config": "{}\n", "expect": "ok", "resolved": {"no.such": 1}}"#;
        assert!(matches!(outcome(unknown_entry), CaseOutcome::Fail(_)));
        let unknown_stage = r#"{"name": "a", "config": "x: [", "expect": "error", "stage": "later"}"#;
        assert!(matches!(outcome(unknown_stage), CaseOutcome::Fail(_)));
    }

    #[test]
    fn wrong_expectations_fail() {
        let wrong = r#"{"name": "a", "config": "{}\n", "expect": "ok", "resolved": {"address": ":1"}}"#;
        assert!(matches!(outcome(wrong), CaseOutcome::Fail(_)));
        let loads = r#"{"name": "a", "config": "{}\n", "expect": "error", "error_contains": ["x"]}"#;
        assert!(matches!(outcome(loads), CaseOutcome::Fail(_)));
        let late =
            r#"{"name": "a", "config": "services: blue\n", "expect": "error", "stage": "service start"}"#;
        assert!(matches!(outcome(late), CaseOutcome::Fail(_)));
        let silent = r#"{"name": "a", "config": "{}\n", "expect": "ok", "logs_contain": ["unknown"]}"#;
        assert!(matches!(outcome(silent), CaseOutcome::Fail(_)));
        let guess = r#"{"name": "a", "config": "x: [", "expect": "ok", "unsure": true}"#;
        assert!(matches!(outcome(guess), CaseOutcome::Unsure(_)));
    }
}
