//! The way in: file and environment become settings, or a list of everything that is wrong.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::diagnostic::{Diagnostic, LoadErrors, Refusal};
use crate::file_text::{Text, Texts, Unreadable};
use crate::layering::{self, Choice, LastGood};
use crate::records::{RecordProblem, Records};
use crate::settings::resolve::{self, Cx};
use crate::settings::{Services, Settings};
use crate::spec::Sink;
use crate::spec::memory::Memory;
use crate::spec::source::{self, Environment};
use crate::spec::values::Values;

/// Loads a configuration, as often as it changes.
#[derive(Debug)]
pub struct Loader {
    path: Option<PathBuf>,
    env: Environment,
    dry_run: bool,
    review: bool,
    /// What the last load leaves for the next.
    memory: Mutex<Memory>,
    /// Settings of records that could be used.
    last_good: Mutex<LastGood>,
    /// The services of the program that runs on what is loaded.
    running: Mutex<Option<Services>>,
    texts: Mutex<Texts>,
}

/// A configuration that loads. It may still hold refusals: then it must not be started.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the program runs on.
    pub settings: Settings,
    /// What deserves a look; goes to the log.
    pub warnings: Vec<Diagnostic>,
    /// What this version cannot honour: the start must be refused while there is any.
    pub refusals: Vec<Refusal>,
    /// Records that are left out; the rest is in force.
    pub record_problems: Vec<RecordProblem>,
}

/// What the file says, or why that cannot be known.
type FileText = Result<String, Unreadable>;

/// All that one load found out, before it is judged.
pub(crate) struct Outcome {
    pub values: Option<Values>,
    pub settings: Option<Settings>,
    pub sink: Sink,
    pub record_problems: Vec<RecordProblem>,
}

impl Loader {
    /// A loader of a file (if any) and an environment.
    pub fn new(path: Option<&Path>, env: &Environment) -> Self {
        Self {
            path: path.map(Path::to_path_buf),
            env: env.clone(),
            dry_run: false,
            review: false,
            memory: Mutex::default(),
            last_good: Mutex::default(),
            running: Mutex::default(),
            texts: Mutex::default(),
        }
    }

    /// A program runs on what was loaded, so that its services stay what they are: later loads are made for these.
    pub fn keep_services(&self, services: Services) {
        *self.running.lock() = Some(services);
    }

    /// Writes nothing to disk: for `validate` and other looks at a configuration that is not run.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Warnings hold everything there is to say about policies, also what is right and only worth a look.
    #[must_use]
    pub fn review(mut self) -> Self {
        self.review = true;
        self
    }

    /// The config file.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads, validates, resolves.
    ///
    /// # Errors
    /// Everything that is wrong, in one go.
    pub fn load(&self) -> Result<Loaded, LoadErrors> {
        self.load_with(Text::Anew, &Records::default())
    }

    /// The text of the file that was last read is in force, and stays so for [`Text::InForce`].
    pub fn keep_text(&self) {
        self.texts.lock().keep();
    }

    /// As [`Self::load`], with the settings of `records` over those of the file, and their routes after its routes. A
    /// record that is wrong does not stop the rest; see [`Loaded::record_problems`].
    ///
    /// # Errors
    /// As [`Self::load`]. An error of any [stage](crate::Stage) counts: no settings leave here beside one.
    pub fn load_with(&self, text: Text, records: &Records) -> Result<Loaded, LoadErrors> {
        let Outcome {
            settings,
            sink,
            record_problems,
            ..
        } = self.run(text, records);
        let Sink {
            file,
            errors,
            mut warnings,
            mut refusals,
            step: _,
            memory: _,
        } = sink;
        warnings.sort_by_key(|warning| warning.place.order());
        refusals.sort_by_key(|refusal| refusal.place.order());
        match settings {
            Some(settings) if errors.is_empty() => Ok(Loaded {
                settings,
                warnings,
                refusals,
                record_problems,
            }),
            settings => {
                let watched_files = settings.map_or_else(
                    || self.path.iter().cloned().collect(),
                    |settings| settings.watched_files,
                );
                let mut errors = LoadErrors {
                    file,
                    errors,
                    warnings,
                    watched_files,
                };
                errors.sort();
                Err(errors)
            }
        }
    }

    pub(crate) fn run(&self, text: Text, records: &Records) -> Outcome {
        let path = self.path.as_deref();
        let text = path.map(|path| self.texts.lock().get(path, text));
        let mut remembered = self.memory.lock();
        let mut last_good = self.last_good.lock();
        let attempt = |choice: &Choice| self.load_over(text.as_ref(), &mut remembered, records, choice);
        let (choice, mut outcome) = layering::choose(&records.settings, &mut last_good, attempt);
        outcome.record_problems.extend(choice.problems);
        outcome
    }

    fn load_over(
        &self,
        text: Option<&FileText>,
        remembered: &mut Memory,
        records: &Records,
        choice: &Choice,
    ) -> Outcome {
        let (mut outcome, stale) = self.attempt(text, std::mem::take(remembered), records, choice);
        if stale {
            (outcome, _) = self.attempt(text, Memory::default(), records, choice);
        }
        let was_read = outcome.settings.is_some();
        *remembered = std::mem::take(&mut outcome.sink.memory).end(was_read);
        outcome
    }

    fn attempt(
        &self,
        text: Option<&FileText>,
        memory: Memory,
        records: &Records,
        choice: &Choice,
    ) -> (Outcome, bool) {
        let mut sink = Sink::new(self.path.clone());
        sink.memory = memory;
        let text = text.map(|text| text.as_deref());
        let file = self.path.as_deref().zip(text);
        let values = source::read(file, &self.env, &choice.layers(), &mut sink);
        let mut cx = Cx {
            sink,
            env: &self.env,
            watched: Vec::new(),
            dry_run: self.dry_run,
            review: self.review,
            records,
            record_problems: records.problems.clone(),
            guard_lost: choice.guard_lost,
            running: *self.running.lock(),
            stale: false,
        };
        let settings = values
            .as_ref()
            .map(|values| resolve::resolve(values, self.path.as_deref(), &mut cx));
        let outcome = Outcome {
            values,
            settings,
            sink: cx.sink,
            record_problems: cx.record_problems,
        };
        (outcome, cx.stale)
    }
}

impl Outcome {
    /// Whether the program can run with it.
    pub(crate) fn is_clean(&self) -> bool {
        self.settings.is_some() && self.sink.errors.is_empty() && self.sink.refusals.is_empty()
    }
}
