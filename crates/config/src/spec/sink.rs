//! Collects every problem of one load, so that all of them are reported together.

use std::path::PathBuf;

use super::memory::Memory;
use crate::diagnostic::{Diagnostic, Place, Refusal, Sort, Stage, Step};
use crate::records::Fault;

/// Problems, warnings and refusals of one load.
#[derive(Debug, Default)]
pub struct Sink {
    /// The config file, for the messages.
    pub file: Option<PathBuf>,
    /// Problems.
    pub errors: Vec<Diagnostic>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
    /// Values that cannot be honoured yet.
    pub refusals: Vec<Refusal>,
    /// The step whose problems are reported now.
    pub step: Step,
    /// What earlier loads have learned.
    pub(crate) memory: Memory,
}

impl Sink {
    /// An empty sink for a file.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            ..Self::default()
        }
    }

    /// How many findings there are, of all sorts.
    pub(crate) fn count(&self) -> usize {
        self.errors.len() + self.warnings.len() + self.refusals.len()
    }

    /// Problems and refusals as what is wrong with fields, each with its way out.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let fault = |key: &str, message: &str, help: &str| match help {
            "" => Fault::of(key, message),
            help => Fault::of(key, format!("{message}: {help}")),
        };
        let errors = self.errors.iter();
        let refusals = self.refusals.iter();
        errors
            .map(|error| fault(&error.key, &error.message, &error.help))
            .chain(refusals.map(|refusal| fault(&refusal.key, &refusal.why, &refusal.help)))
            .collect()
    }

    /// A problem at load.
    pub fn error(
        &mut self,
        place: Place,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.error_at(Stage::Load, place, key, message, help);
    }

    /// A problem at some stage.
    pub fn error_at(
        &mut self,
        stage: Stage,
        place: Place,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let diagnostic = self.diagnostic(stage, place, key.into(), message.into(), help.into());
        self.errors.push(diagnostic);
    }

    /// A warning.
    pub fn warn(
        &mut self,
        place: Place,
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let diagnostic = self.diagnostic(Stage::Load, place, key.into(), message.into(), help.into());
        self.warnings.push(diagnostic);
    }

    /// The last warning is of this sort.
    pub fn last_warning_is(&mut self, sort: Sort) {
        if let Some(warning) = self.warnings.last_mut() {
            warning.sort = sort;
        }
    }

    /// The last problem is of this sort.
    pub fn last_error_is(&mut self, sort: Sort) {
        if let Some(error) = self.errors.last_mut() {
            error.sort = sort;
        }
    }

    /// A value that this version cannot honour.
    pub fn refuse(
        &mut self,
        place: Place,
        key: impl Into<String>,
        why: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.refusals.push(Refusal {
            file: self.file.clone(),
            place,
            key: key.into(),
            why: why.into(),
            help: help.into(),
        });
    }

    fn diagnostic(
        &self,
        stage: Stage,
        place: Place,
        key: String,
        message: String,
        help: String,
    ) -> Diagnostic {
        Diagnostic {
            sort: Sort::Value,
            file: self.file.clone(),
            place,
            stage,
            step: self.step,
            key,
            message,
            help,
        }
    }
}
