//! What is told to people about their configuration: problems, warnings, refusals.
//!
//! Every message names the file, the line, the key, what is wrong and the way out. The same values serve the
//! terminal (`Display`) and the log (the fields).

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// In the config file.
    File,
    /// In an environment variable of this name.
    Env(&'static str),
    /// In a record of the databroker.
    Record,
    /// Nowhere: a built-in default, or a key that is missing.
    #[default]
    Default,
}

/// A position: origin, line and column counted from 1 (0 is unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// File, environment, or nothing.
    pub origin: Origin,
    /// Line from 1; 0 when unknown.
    pub line: u32,
    /// Column from 1; 0 when unknown.
    pub column: u32,
}

impl Place {
    /// Findings are told in the order of the file; those of the environment come first.
    pub(crate) fn order(self) -> (bool, u32, u32) {
        (self.origin == Origin::File, self.line, self.column)
    }
}

/// When a problem would show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// While the file is read and validated.
    Load,
    /// When the services start (spec config.md 6, "Service-start checks").
    ServiceStart,
    /// When the route table is built.
    DataPlane,
}

/// The step of a load that found a problem. What it is called heads the problems, as deployed tools know it (spec
/// config.md 1.1, 9.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Step {
    /// The file is read.
    Read,
    /// Its options get their types.
    Decode,
    /// Options are checked.
    #[default]
    Validate,
    /// A route is checked.
    Route,
}

impl Step {
    /// What failed. A file that cannot be read says so itself.
    const fn failed(self) -> Option<&'static str> {
        match self {
            Self::Read => None,
            Self::Decode => Some("failed to unmarshal config: decoding failed due to the following error(s)"),
            Self::Validate => Some("validation error"),
            Self::Route => Some("validation error config: failed to parse policy"),
        }
    }
}

/// What sort of finding it is: some have a log line with a fixed text (spec config.md 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// A value that is wrong, or deserves a look.
    #[default]
    Value,
    /// A key that is not in the table.
    UnknownKey,
    /// A key that is gone.
    RemovedKey,
    /// An entry of `runtime_flags` that is not in the table.
    UnknownFlag,
    /// Advice about a policy.
    Policy(pomerium_policy::ppl::Lint),
}

/// One problem or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What sort of finding.
    pub sort: Sort,
    /// The config file, when there is one.
    pub file: Option<PathBuf>,
    /// Where in it, or which environment variable.
    pub place: Place,
    /// Stage at which it shows.
    pub stage: Stage,
    /// The step that found it.
    pub step: Step,
    /// Key path, for instance `routes[0].timeout`; may be empty (the whole file).
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
}

impl Diagnostic {
    /// `file:line:column`, `environment variable NAME`, or the bare file name.
    pub fn location(&self) -> String {
        location(self.file.as_deref(), self.place)
    }

    /// What failed with it; nothing where it is no failure of the load, or says so itself.
    fn failed(&self) -> Option<&'static str> {
        match (self.stage, self.sort) {
            (Stage::Load, Sort::RemovedKey) => None,
            (Stage::Load, _) => self.step.failed(),
            _ => None,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_entry(f, &self.location(), &self.key, &self.message, &self.help)
    }
}

/// A value that is understood but cannot be honoured by this version: the start is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The config file, when there is one.
    pub file: Option<PathBuf>,
    /// Where in it, or which environment variable.
    pub place: Place,
    /// Key path.
    pub key: String,
    /// Why the start is refused.
    pub why: String,
    /// The way out.
    pub help: String,
}

impl Refusal {
    /// As [`Diagnostic::location`].
    pub fn location(&self) -> String {
        location(self.file.as_deref(), self.place)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_entry(f, &self.location(), &self.key, &self.why, &self.help)
    }
}

/// Every problem of a configuration, in one go. Its text begins with what failed first.
#[derive(Debug, Clone)]
pub struct LoadErrors {
    /// The config file, when there is one.
    pub file: Option<PathBuf>,
    /// The problems, in the order of the file.
    pub errors: Vec<Diagnostic>,
    /// Warnings that came up on the way.
    pub warnings: Vec<Diagnostic>,
    /// The config file and every file it names: a change of one of them may mend it.
    pub watched_files: Vec<PathBuf>,
}

impl LoadErrors {
    /// Brings the problems into the order in which they would show.
    pub(crate) fn sort(&mut self) {
        self.errors
            .sort_by_key(|error| (error.stage, error.place.order()));
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(path) => write!(f, "config: options from config file \"{}\": ", path.display())?,
            None => f.write_str("config: options from the environment: ")?,
        }
        if let Some(failed) = self.errors.first().and_then(Diagnostic::failed) {
            write!(f, "{failed}: ")?;
        }
        match self.errors.len() {
            1 => f.write_str("1 problem")?,
            n => write!(f, "{n} problems")?,
        }
        for error in &self.errors {
            write!(f, "\n{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadErrors {}

fn location(file: Option<&Path>, place: Place) -> String {
    let file = file.map(|path| path.display().to_string());
    match (place.origin, file) {
        (Origin::Env(name), _) if place.line > 0 => {
            format!("environment variable {name}:{}:{}", place.line, place.column)
        }
        (Origin::Env(name), _) => format!("environment variable {name}"),
        (_, Some(file)) if place.line > 0 => format!("{file}:{}:{}", place.line, place.column),
        (_, Some(file)) => file,
        (_, None) => "configuration".to_owned(),
    }
}

fn write_entry(
    f: &mut fmt::Formatter<'_>,
    location: &str,
    key: &str,
    message: &str,
    help: &str,
) -> fmt::Result {
    write!(f, "{location}: ")?;
    if !key.is_empty() {
        write!(f, "{key}: ")?;
    }
    f.write_str(message)?;
    if !help.is_empty() {
        write!(f, "\n    help: {help}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(place: Place) -> Diagnostic {
        Diagnostic {
            sort: Sort::Value,
            file: Some(PathBuf::from("config.yaml")),
            place,
            stage: Stage::Load,
            step: Step::default(),
            key: "address".into(),
            message: "is wrong".into(),
            help: "write it right".into(),
        }
    }

    #[test]
    fn prints_file_line_key_and_help() {
        let text = diagnostic(Place {
            origin: Origin::File,
            line: 3,
            column: 7,
        })
        .to_string();
        assert_eq!(
            text,
            "config.yaml:3:7: address: is wrong\n    help: write it right"
        );
    }

    #[test]
    fn begins_with_what_failed_first() {
        let heading = |change: fn(&mut Diagnostic)| {
            let mut first = diagnostic(Place::default());
            change(&mut first);
            let errors = LoadErrors {
                file: Some(PathBuf::from("config.yaml")),
                errors: vec![first, diagnostic(Place::default())],
                warnings: Vec::new(),
                watched_files: Vec::new(),
            };
            let text = errors.to_string();
            let heading = text.lines().next().unwrap_or_default();
            heading
                .strip_prefix("config: options from config file \"config.yaml\": ")
                .unwrap()
                .to_owned()
        };
        assert_eq!(heading(|_| {}), "validation error: 2 problems");
        assert_eq!(
            heading(|first| first.step = Step::Route),
            "validation error config: failed to parse policy: 2 problems"
        );
        assert_eq!(
            heading(|first| first.step = Step::Decode),
            "failed to unmarshal config: decoding failed due to the following error(s): 2 problems"
        );
        // These say it themselves.
        assert_eq!(heading(|first| first.step = Step::Read), "2 problems");
        assert_eq!(heading(|first| first.sort = Sort::RemovedKey), "2 problems");
        // This configuration loads.
        assert_eq!(heading(|first| first.stage = Stage::ServiceStart), "2 problems");
    }

    #[test]
    fn names_the_environment_variable() {
        let text = diagnostic(Place {
            origin: Origin::Env("ADDRESS"),
            line: 0,
            column: 0,
        })
        .to_string();
        assert!(text.starts_with("environment variable ADDRESS: address: "));
    }
}
