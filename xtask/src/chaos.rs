//! `cargo xtask chaos`: power failures of a disk in memory, as a test of the databroker in its long form, then the part
//! of `pomerium-benches` that kills processes.

use anyhow::Result;
use clap::Args;

use crate::bench;
use crate::run::{cargo, check};

/// Names the number to the test.
const FAILURES: &str = "POMERIUM_CHAOS_FAILURES";

/// How much of it.
#[derive(Debug, Args)]
pub struct Chaos {
    /// How long the databrokers of an installation are killed
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Power failures after which any part of what was not flushed is there
    #[arg(long, default_value_t = 2_000)]
    failures: u64,
    /// More arguments for the benchmark program: `--kills`, `--takeovers`, `--seed`, `--write FILE`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
}

/// Runs it; fails when anything that was acknowledged is lost.
pub fn run(chaos: &Chaos) -> Result<()> {
    let mut failing = cargo([
        "test",
        "--release",
        "--package",
        "pomerium-databroker",
        "--lib",
        "file::crashes",
        "--",
        "--nocapture",
    ]);
    check(failing.env(FAILURES, chaos.failures.to_string()))?;
    let mut args = vec![
        "chaos".to_owned(),
        "--minutes".to_owned(),
        chaos.minutes.to_string(),
    ];
    args.extend(chaos.more.iter().cloned());
    bench::run(&args)
}
