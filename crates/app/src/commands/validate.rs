//! `pomerium validate FILE`: everything that is wrong with a configuration, in one go.

use std::path::Path;
use std::process::ExitCode;

use pomerium_config::Loader;
use pomerium_proxy::Snapshot;

use super::{environment, print};

/// Loads the configuration as the program would, builds what it would build, and prints every problem.
pub fn run(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let environment = environment();
    let loaded = match Loader::new(config, &environment).dry_run().load() {
        Ok(loaded) => loaded,
        Err(errors) => {
            print(&errors.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    for warning in &loaded.warnings {
        print(&format!("warning: {warning}"));
    }
    for refusal in &loaded.refusals {
        print(&format!("cannot start: {refusal}"));
    }
    let built = Snapshot::build(&loaded.settings, None);
    if let Err(error) = &built {
        print(&format!("cannot start: {error}"));
    }
    if !loaded.refusals.is_empty() || built.is_err() {
        return Ok(ExitCode::FAILURE);
    }
    print(&format!("valid: {} routes", loaded.settings.routes.len()));
    Ok(ExitCode::SUCCESS)
}
