//! Custom policies in Rego (spec policy.md 7), through an embedded engine. Pure: no I/O, no clock but the request's.
//!
//! [`Script::compile`] reads a script once: `keywords` and `check` refuse what must not run, `negation` writes anew
//! what the engine takes otherwise than the language means it, `load` puts it together. [`Script::run`] judges one
//! request: `document` makes the input, `functions` and `records` answer what the script asks for, `result` reads
//! what it says. `size` bounds what one call may make; `digests`, `jwt` and `ssh` are functions that the engine lacks. `print` goes the other way: a policy of ours as Rego.

mod check;
mod digests;
mod document;
mod error;
mod functions;
mod jwt;
mod keywords;
mod load;
mod negation;
mod print;
mod records;
mod result;
mod size;
mod ssh;
mod syntax;
mod uses;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use sha2::{Digest as _, Sha256};

pub use self::error::RegoError;
use self::functions::{Context, Slot};
pub use self::print::{Unprintable, print};
use self::uses::Uses;
use crate::depends::Depends;
use crate::input::Input;
use crate::program::Verdict;

/// How long one evaluation may take. Usual scripts take some ten microseconds. The engine looks at the clock of the wall,
/// so a thread that has to wait for its core must not run out of time: the limit is for scripts that never end.
pub const TIME_LIMIT: Duration = Duration::from_millis(50);

const TIMER: ExecutionTimerConfig = ExecutionTimerConfig {
    limit: TIME_LIMIT,
    check_interval: NonZeroU32::new(128).expect("not zero"),
};

/// Engines that wait for the next request, at most; about one per thread is ever there.
const POOL: usize = 64;

/// What scripts see under `data` (spec policy.md 7). The signing key is not among it, and of the service account
/// only whether there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptData {
    /// `jwt_claims_headers`: header to claim.
    pub jwt_claim_headers: BTreeMap<String, String>,
}

impl ScriptData {
    fn document(&self) -> Value {
        let text = |text: &str| Value::from(text);
        let headers = self
            .jwt_claim_headers
            .iter()
            .map(|(header, claim)| (text(header), text(claim)));
        value::object([
            (text("jwt_claim_headers"), value::object(headers)),
            (
                text("google_cloud_serverless_authentication_service_account"),
                text(""),
            ),
        ])
    }
}

/// A compiled script. Cloning shares it.
#[derive(Clone)]
pub struct Script(Arc<Compiled>);

struct Compiled {
    name: Arc<str>,
    /// Tells scripts apart where they are printed.
    digest: [u8; 8],
    engine: Engine,
    uses: Uses,
    pool: Mutex<Vec<Instance>>,
}

/// An engine with functions that look at its own slot.
struct Instance {
    engine: Engine,
    slot: Slot,
}

/// What a script says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    pub(crate) allow: Verdict,
    pub(crate) deny: Verdict,
}

impl Script {
    /// Reads a script. `name` tells people which one it is.
    ///
    /// Errors with the first thing wrong with it.
    pub fn compile(name: &str, text: &str, data: &ScriptData) -> Result<Self, RegoError> {
        let loaded = load::load(name, text, data)?;
        Ok(Self(Arc::new(Compiled {
            name: Arc::from(name),
            digest: digest(text, data),
            engine: loaded.engine,
            uses: loaded.uses,
            pool: Mutex::new(Vec::new()),
        })))
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it looks at who somebody is.
    pub(crate) fn needs_identity(&self) -> bool {
        self.0.uses.any(Uses::SESSION) || self.0.uses.any(Uses::RECORDS)
    }

    /// Whether it looks at the client certificate.
    pub(crate) fn needs_certificate(&self) -> bool {
        self.0.uses.any(Uses::CERTIFICATE) || self.0.uses.any(Uses::VALID)
    }

    /// What its judgement depends on beyond the request and the person.
    pub(crate) fn depends(&self) -> Depends {
        let uses = self.0.uses;
        Depends {
            // A record may have an end of its own, and a certificate has one.
            time: uses.any(Uses::TIME) || uses.any(Uses::RECORDS) || self.needs_certificate(),
            records: uses.any(Uses::RECORDS),
            headers: uses.any(Uses::HEADERS),
            sessions: uses.any(Uses::SESSIONS),
        }
    }

    /// Judges one request.
    ///
    /// Errors, in a line for the log, when there is no result: the script took too long, grew too large, or contradicts
    /// itself.
    pub(crate) fn run(&self, input: &Input<'_>) -> Result<Outcome, String> {
        let failed = |problem: &str| format!("the Rego policy {} failed: {problem}", self.0.name);
        let mut instance = self.instance().map_err(|error| failed(&error.to_string()))?;
        let person = input.subject.filter(|_| self.0.uses.any(Uses::RECORDS));
        *instance.slot.lock() = Some(Context {
            now: input.now,
            address: input.http.client_ip,
            records: records::Records::new(input.records.owned(), person, self.0.uses),
        });
        instance.engine.set_input(document::document(input, self.0.uses));
        // A fault of the engine must not end the thread that serves others.
        let value = catch_unwind(AssertUnwindSafe(|| {
            instance.engine.eval_rule(load::ENTRY.to_owned())
        }));
        let value = match value {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => {
                let flaw = error::Flaw::of_engine(&error);
                return Err(failed(&format!("line {}: {}", flaw.line, flaw.problem)));
            }
            Err(_) => return Err(failed("the engine stopped")),
        };
        self.show_prints(&mut instance.engine);
        let outcome = outcome(&value).map_err(|problem| failed(&problem));
        self.keep(instance);
        outcome
    }

    fn instance(&self) -> anyhow::Result<Instance> {
        if let Some(instance) = self.0.pool.try_lock().and_then(|mut pool| pool.pop()) {
            return Ok(instance);
        }
        let mut engine = self.0.engine.clone();
        let slot = Slot::default();
        functions::add_ours(&mut engine, &slot)?;
        Ok(Instance { engine, slot })
    }

    /// Puts an engine back, without what it knows of the request.
    fn keep(&self, mut instance: Instance) {
        *instance.slot.lock() = None;
        instance.engine.set_input(Value::Undefined);
        if let Some(mut pool) = self.0.pool.try_lock()
            && pool.len() < POOL
        {
            pool.push(instance);
        }
    }

    fn show_prints(&self, engine: &mut Engine) {
        for line in engine.take_prints().unwrap_or_default() {
            tracing::debug!(policy = %self.0.name, "rego: {line}");
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("name", &self.0.name)
            .field("digest", &self.0.digest)
            .field("uses", &self.0.uses)
            .finish_non_exhaustive()
    }
}

fn outcome(value: &Value) -> Result<Outcome, String> {
    let Value::Object(verdicts) = value else {
        return Ok(Outcome::default());
    };
    let of = |action: &str| match verdicts.get(&Value::from(action)) {
        Some(value) => result::verdict(value).map_err(|problem| format!("`{action}`: {problem}")),
        None => Ok(Verdict::default()),
    };
    Ok(Outcome {
        allow: of("allow")?,
        deny: of("deny")?,
    })
}

/// Over all a script is made from.
fn digest(text: &str, data: &ScriptData) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(text.as_bytes());
    hash.update(format!("{data:?}").as_bytes());
    let all = hash.finalize();
    std::array::from_fn(|index| all[index])
}
