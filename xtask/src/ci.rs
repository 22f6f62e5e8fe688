//! `cargo xtask ci`: everything that must hold before a change lands, cheapest first.

use anyhow::Result;

use crate::run::{cargo, check};
use crate::{layers, supply, test};

/// Runs all steps; the first one that fails ends the run.
pub fn run() -> Result<()> {
    check(&mut cargo(["fmt", "--all", "--check"]))?;
    layers::run()?;
    supply::run()?;
    check(&mut cargo([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    // All that fails is told in one run.
    test::run(&["--locked".into(), "--no-fail-fast".into()])
}
