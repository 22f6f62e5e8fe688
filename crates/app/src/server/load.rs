//! Reads the configuration and says what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use pomerium_config::records::{RecordProblem, Records};
use pomerium_config::settings::Settings;
use pomerium_config::{Diagnostic, Loader, Refusal, Sort, Text};

/// Where the configuration comes from.
#[derive(Debug)]
pub struct Source(Loader);

impl Source {
    /// A file (without one only the environment is read) and environment variables.
    pub fn new(file: Option<&Path>, environment: &BTreeMap<String, String>) -> Self {
        Self(Loader::new(file, environment))
    }

    /// The file.
    pub fn file(&self) -> Option<&Path> {
        self.0.path()
    }

    /// Loads settings that the program can run with.
    ///
    /// Every error and warning is logged with file, line and remedy; the error returned sums them up. A value whose
    /// effect is not built yet is an error here, at the start and at a reload alike.
    pub fn load(&self) -> anyhow::Result<Settings> {
        Ok(self.load_with(Text::Anew, &Records::default())?.0)
    }

    /// As [`Self::load`], for a program that runs these services from now on, whatever a later version of the configuration
    /// says.
    pub fn load_to_run(&self) -> anyhow::Result<Settings> {
        let settings = self.load()?;
        self.0.keep_services(settings.services);
        self.keep_text();
        Ok(settings)
    }

    /// The file as it was last read is in force.
    pub fn keep_text(&self) {
        self.0.keep_text();
    }

    /// As [`Self::load`], with the routes of `records`; those that are left out come along.
    pub fn load_with(&self, text: Text, records: &Records) -> anyhow::Result<(Settings, Vec<RecordProblem>)> {
        let loaded = match self.0.load_with(text, records) {
            Ok(loaded) => loaded,
            Err(errors) => {
                errors.warnings.iter().for_each(log_warning);
                errors.errors.iter().for_each(log_problem);
                return Err(anyhow::Error::new(errors));
            }
        };
        loaded.warnings.iter().for_each(log_warning);
        if loaded.refusals.is_empty() {
            return Ok((loaded.settings, loaded.record_problems));
        }
        loaded.refusals.iter().for_each(log_refusal);
        bail!(
            "the configuration asks for what this version cannot do: {}",
            names(&loaded.refusals)
        )
    }
}

fn names(refusals: &[Refusal]) -> String {
    let mut names: Vec<&str> = refusals.iter().map(|refusal| refusal.key.as_str()).collect();
    names.dedup();
    names.join(", ")
}

fn log_refusal(refusal: &Refusal) {
    let at = refusal.location();
    tracing::error!(
        at,
        key = refusal.key,
        help = refusal.help,
        "cannot start: {}",
        refusal.why
    );
}

fn log_problem(problem: &Diagnostic) {
    if !log_known(problem) {
        let at = problem.location();
        tracing::error!(at, key = problem.key, help = problem.help, "{}", problem.message);
    }
}

fn log_warning(warning: &Diagnostic) {
    if !log_known(warning) {
        let at = warning.location();
        tracing::warn!(at, key = warning.key, help = warning.help, "{}", warning.message);
    }
}

/// Findings whose line is matched by tools: level, text and fields are those of the original (spec config.md 1.1).
fn log_known(finding: &Diagnostic) -> bool {
    let config_file = finding.file.as_deref().unwrap_or_else(|| Path::new(""));
    let config_file = config_file.display().to_string();
    let (key, help, at) = (&finding.key, &finding.help, finding.location());
    match finding.sort {
        Sort::Value | Sort::Policy(_) => return false,
        Sort::UnknownKey => tracing::error!(config_file, key, at, help, "unknown config option"),
        Sort::RemovedKey => tracing::error!(config_file, key, at, help, "config option was removed"),
        Sort::UnknownFlag => {
            let flag = key.strip_prefix("runtime_flags.").unwrap_or(key);
            tracing::error!(config_file, flag, at, help, "unknown runtime flag");
        }
    }
    true
}
