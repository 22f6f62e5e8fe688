//! From text to an engine that is ready to judge.

use std::sync::Arc;
use std::thread;

use regorus::unstable::{Module, Parser};
use regorus::{Engine, PolicyLengthConfig, Source, Value};

use super::error::{Flaw, RegoError};
use super::syntax::defines;
use super::uses::Uses;
use super::{ScriptData, check, functions, keywords, negation};

/// Longest script, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// Stack of the thread that reads a script: reading takes some for every level, before it is known how many there are.
const STACK: usize = 256 * 1024 * 1024;

/// What is asked: both actions at once, so that rules they share are judged once.
pub(super) const ENTRY: &str = "data.pomerium_entry.verdict";

pub(super) struct Loaded {
    pub(super) engine: Engine,
    pub(super) uses: Uses,
}

/// Reads, checks and prepares a script.
pub(super) fn load(script: &str, text: &str, data: &ScriptData) -> Result<Loaded, RegoError> {
    let whole = |problem: String| Flaw::whole(problem).of(script, 0);
    if text.len() > MAX_BYTES {
        return Err(whole(format!(
            "it has {} bytes; the limit is {MAX_BYTES}",
            text.len()
        )));
    }
    let work = || {
        let words = keywords::read(text).map_err(|flaw| flaw.of(script, 0))?;
        let (text, shift) = if words.has_package {
            (text.to_owned(), 0)
        } else {
            (format!("package pomerium.policy\n{text}"), 1)
        };
        prepare(script, text, data).map_err(|flaw| flaw.of(script, shift))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("rego".into()).stack_size(STACK);
        match thread.spawn_scoped(scope, work) {
            Ok(handle) => handle
                .join()
                .unwrap_or_else(|_| Err(whole("reading it failed; report this script".into()))),
            Err(error) => Err(whole(format!("no thread to read it: {error}"))),
        }
    })
}

fn prepare(script: &str, mut text: String, data: &ScriptData) -> Result<Loaded, Flaw> {
    let mut module = parse(&text)?;
    check::size(&module)?;
    check::names(&module)?;
    check::chains(&module)?;
    let mut count = 0;
    while let Some(new) = negation::rewritten(&module, &text, &mut count) {
        text = new;
        module = parse(&text)?;
        check::size(&module)?;
    }
    let uses = Uses::of(&module);
    let engine = engine(script, text, &module, data).map_err(|error| Flaw::of_engine(&error))?;
    Ok(Loaded { engine, uses })
}

fn parse(text: &str) -> Result<Module, Flaw> {
    let read = || {
        let source = Source::from_contents("script".into(), text.to_owned())?;
        let mut parser = Parser::new(&source)?;
        parser.set_max_col(keywords::MAX_COLUMNS);
        parser.parse()
    };
    read().map_err(|error| Flaw::of_engine(&error))
}

fn engine(script: &str, text: String, module: &Module, data: &ScriptData) -> anyhow::Result<Engine> {
    let mut engine = Engine::new();
    engine.set_rego_v0(true);
    engine.set_strict_builtin_errors(false);
    engine.set_gather_prints(true);
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: keywords::MAX_COLUMNS,
        ..PolicyLengthConfig::default()
    });
    engine.set_execution_timer_config(super::TIMER);
    engine.add_policy(script.to_owned(), text)?;
    engine.add_policy("entry".to_owned(), entry(module))?;
    engine.add_data(data.document())?;
    functions::add_bounds(&mut engine)?;
    let rule: Arc<str> = Arc::from(ENTRY);
    engine.compile_with_entrypoint(&rule)?;
    engine.set_input(Value::Undefined);
    Ok(engine)
}

/// Asks for the actions that the script defines.
fn entry(module: &Module) -> String {
    let mut entry = String::from("package pomerium_entry\n");
    for action in ["allow", "deny"] {
        let defined = module
            .policy
            .iter()
            .any(|rule| defines(rule).0.first() == Some(&action));
        // An action that is not defined is undefined; there has to be a rule all the same.
        let result = if defined {
            "data.pomerium.policy."
        } else {
            "data.none."
        };
        entry.push_str(&format!(
            "verdict[action] = result {{ action := \"{action}\"; result := {result}{action} }}\n"
        ));
    }
    entry
}
