//! `pomerium schema`: the JSON schema of the configuration file.

use std::process::ExitCode;

/// Prints the schema.
pub fn run() -> anyhow::Result<ExitCode> {
    super::print(&serde_json::to_string_pretty(&pomerium_config::schema())?);
    Ok(ExitCode::SUCCESS)
}
