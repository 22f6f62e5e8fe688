//! Routing cases (`tests/cases/routing.json`) through the real listener.
//!
//! For each case the real program is started with the case's configuration, read by the real loader;
//! the request goes over TLS as raw bytes, and stubs stand in for the upstreams. Names and addresses of
//! the case cannot exist on this machine, so they are exchanged on the way in and exchanged back before
//! comparing: the client's 203.0.113.9 is 127.0.0.9 (not loopback for the forwarding rules, which only
//! know 127.0.0.1), and each upstream is a port of 127.0.0.1. Nothing else differs from production.

mod case;
mod config;
mod judge;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use case::Case;

/// Cases that run at the same time.
const AT_ONCE: usize = 4;

/// Puts routes into the databroker of a data folder (the first argument), before the program starts on it.
/// No room is linked in here, so whoever runs the cases brings this along.
pub type Seed = fn(PathBuf, Vec<Value>) -> BoxFuture<'static, Result<()>>;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the case.
    pub name: String,
    /// The expectation is not certain; a difference is a question, not a defect.
    pub unsure: bool,
    /// Each difference; empty when the case passed.
    pub differences: Vec<String>,
}

/// Runs the cases of a file whose names contain `filter`.
///
/// # Errors
/// The file cannot be read. A case that cannot be run at all is a failed case.
pub async fn run(file: &Path, filter: &str, seed: Seed) -> Result<Vec<Outcome>> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let document: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    let cases = document["cases"]
        .as_array()
        .context("the file has no `cases`")?
        .clone();
    let chosen = cases
        .into_iter()
        .filter(|case| case["name"].as_str().unwrap_or_default().contains(filter))
        .map(|case| async move { run_case(&case, seed).await });
    // In the order of the file, whatever ends first.
    Ok(stream::iter(chosen).buffered(AT_ONCE).collect().await)
}

async fn run_case(value: &Value, seed: Seed) -> Outcome {
    let name = value["name"].as_str().unwrap_or("(no name)").to_owned();
    let unsure = value["unsure"].as_bool().unwrap_or(false);
    let differences = match try_case(value, seed).await {
        Ok(differences) => differences,
        Err(error) => vec![format!("{error:#}")],
    };
    Outcome {
        name,
        unsure,
        differences,
    }
}

async fn try_case(value: &Value, seed: Seed) -> Result<Vec<String>> {
    // A field that is not known here would be an expectation that nobody checks.
    let case: Case =
        serde_json::from_value(value.clone()).context("the runner does not know this case's form")?;
    let seen = Box::pin(stage::play(&case, seed)).await?;
    Ok(judge::differences(&case, &seen))
}
