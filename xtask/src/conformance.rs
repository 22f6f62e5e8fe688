//! `cargo xtask conformance`: runs case files against the real program.
//!
//! The runner is the program `conformance` of `pomerium-tests`, because it links the rooms; this only
//! starts it. Its exit code is ours.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::cargo;
use crate::setup::{self, Purpose};
use crate::test::{build_server, with_tools};

/// Which cases.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Kind {
    /// Loading and resolving configuration
    Config,
    /// Policies and what they mean for the HTTP answer
    Ppl,
    /// Requests through the real listener
    Routing,
}

/// Runs the cases of `files`; the exit code is 1 when one of them fails.
pub fn run(kind: Kind, files: &[PathBuf], filter: Option<&str>) -> Result<()> {
    let name = match kind {
        Kind::Config => "config",
        Kind::Ppl => "ppl",
        Kind::Routing => "routing",
    };
    let mut command = cargo([
        "run",
        "--quiet",
        "--package",
        "pomerium-tests",
        "--bin",
        "conformance",
        "--",
        name,
    ]);
    for file in files {
        command.arg(absolute(file)?);
    }
    command.args(filter.into_iter().flat_map(|filter| ["--filter", filter]));
    if matches!(kind, Kind::Routing) {
        let tools = setup::present(Purpose::Test);
        with_tools(&mut command, &tools).env("POMERIUM_BIN", build_server("dev")?);
    }
    // The runner's last line is the count; nothing comes after it.
    let status = command.status().context("the runner does not start")?;
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("no such case file: {}", path.display()))
}
