//! `cargo xtask bench`: builds everything with the `dist` profile and starts the benchmark program of
//! `pomerium-benches`, which says what it measures and how.
//! `cargo xtask soak` is one of its tasks.

use anyhow::Result;

use crate::run::{cargo, check};
use crate::setup::{self, Purpose};
use crate::test::{build_server, with_tools};

/// Runs mixed load for `minutes`; fails when a request fails or memory grows.
pub fn soak(minutes: u64) -> Result<()> {
    run(&["soak".into(), "--minutes".into(), minutes.to_string()])
}

/// Runs the benchmark with `args`.
pub fn run(args: &[String]) -> Result<()> {
    let tools = setup::run(Purpose::Bench)?;
    let server = build_server("dist")?;
    let mut command = cargo([
        "run",
        "--quiet",
        "--profile",
        "dist",
        "--package",
        "pomerium-benches",
        "--bin",
        "bench",
        "--",
    ]);
    command.args(args);
    with_tools(&mut command, &tools).env("POMERIUM_BIN", server);
    if let Some(envoy) = tools.envoy() {
        command.env("POMERIUM_BENCH_ENVOY", envoy);
    }
    check(&mut command)
}
