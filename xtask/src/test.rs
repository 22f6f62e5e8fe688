//! `cargo xtask test`: gets what tests need, builds the server once, then runs them all.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::failures::Failures;
use crate::run::{cargo, check, describe, output};
use crate::setup::{self, Purpose, Tools};

/// Runs `cargo test` over the workspace (or what `args` choose) with the tools at hand.
pub fn run(args: &[String]) -> Result<()> {
    let tools = setup::run(Purpose::Test)?;
    let server = build_server("dev")?;
    let mut command = cargo(["test"]);
    if !args
        .iter()
        .any(|arg| arg == "-p" || arg.starts_with("--package") || arg == "--workspace")
    {
        command.arg("--workspace");
    }
    command.args(args);
    with_tools(&mut command, &tools).env("POMERIUM_BIN", server);
    check_tests(&mut command)
}

/// As [`check`]; what failed is told once more at the end.
fn check_tests(command: &mut Command) -> Result<()> {
    let text = describe(command);
    eprintln!("$ {text}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{text}`"))?;
    let output = child.stdout.take().context("no standard output")?;
    let failures = Failures::of(BufReader::new(output), std::io::stdout().lock())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{}`{text}` failed ({status})", failures.text());
    }
    Ok(())
}

/// Puts the tools on the PATH of a command and says where the npm packages are.
pub fn with_tools<'c>(command: &'c mut Command, tools: &Tools) -> &'c mut Command {
    command
        .env("PATH", tools.path())
        .env("POMERIUM_TEST_NODE_MODULES", tools.node_modules())
        .env("POMERIUM_TEST_PYTHON", tools.python())
        .env("POMERIUM_TEST_PROXIES", tools.proxies())
        .env("POMERIUM_TEST_POSTGRES", tools.postgres())
}

/// Builds the `pomerium` binary and returns where it is.
pub fn build_server(profile: &str) -> Result<PathBuf> {
    check(&mut cargo([
        "build",
        "--quiet",
        "--package",
        "pomerium",
        "--bin",
        "pomerium",
        "--profile",
        profile,
    ]))?;
    let metadata = output(&mut cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(PathBuf::from(target).join(folder).join("pomerium"))
}
