//! Reads the configuration and says what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use pomerium_config::settings::Settings;
use pomerium_config::{Diagnostic, Loader, Refusal};

use crate::commands::print_error;

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
        let loaded = match self.0.load() {
            Ok(loaded) => loaded,
            Err(errors) => {
                errors.errors.iter().for_each(log_problem);
                return Err(anyhow::Error::new(errors));
            }
        };
        loaded.warnings.iter().for_each(log_warning);
        if loaded.refusals.is_empty() {
            return Ok(loaded.settings);
        }
        for refusal in &loaded.refusals {
            print_error(&refusal.to_string());
        }
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

fn log_problem(problem: &Diagnostic) {
    let place = problem.location();
    tracing::error!(
        config_file = place,
        key = problem.key,
        help = problem.help,
        "{}",
        problem.message
    );
}

fn log_warning(warning: &Diagnostic) {
    let place = warning.location();
    tracing::warn!(
        config_file = place,
        key = warning.key,
        help = warning.help,
        "{}",
        warning.message
    );
}
