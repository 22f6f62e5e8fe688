//! The original's own client packages, in Go, against our databroker. Where Go is not on the machine, or its modules
//! cannot be had, this is skipped, and says so.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Environment, EnvironmentBuilder, lease};
use pomerium_tests::apart::NAME;
use tokio::process::Command;

/// Of every environment of the tests.
const SHARED: &str = "dGVzdHMgb25seTogdGhlIHNoYXJlZCBzZWNyZXQgISE=";
/// Steps of the program.
const STEPS: usize = 27;
/// What Go says when it cannot have a module.
const NO_MODULES: [&str; 4] = ["dial tcp", "no such host", "Forbidden", "not available"];

#[tokio::test]
async fn the_go_client_of_the_original_finds_what_it_expects() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(program) = build(folder.path().join("interop")).await? else {
        return Ok(());
    };
    let insecure = |builder: EnvironmentBuilder| builder.set("grpc_insecure", true);
    all_holds(&program, insecure, &[]).await?;
    // With a certificate from an authority that both derive from the secret.
    all_holds(&program, |builder| builder.set("tls_derive", NAME), &[NAME]).await
}

/// Runs the program against a databroker of its own.
async fn all_holds(
    program: &Path,
    with: impl FnOnce(EnvironmentBuilder) -> EnvironmentBuilder,
    arguments: &[&str],
) -> Result<()> {
    let port = lease()?;
    let address = format!("127.0.0.1:{}", port.number());
    let builder = Environment::builder()?
        .set("services", "databroker")
        .set("grpc_address", address.as_str());
    let databroker = with(builder).start().await?;
    let ran = Command::new(program)
        .args([&address, SHARED])
        .args(arguments)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    ensure!(ran.status.success(), "{said}\n{}", databroker.log().tail(20));
    let held = said.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(held >= STEPS, "fewer steps than there are: {said}");
    Ok(())
}

/// Builds the program; none where that cannot be done here.
async fn build(to: PathBuf) -> Result<Option<PathBuf>> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("go");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&to)
        .arg(".")
        .current_dir(source)
        .output()
        .await;
    let built = match built {
        Ok(built) => built,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return skipped("Go is not on this machine");
        }
        Err(error) => return Err(error).context("go build"),
    };
    let said = String::from_utf8_lossy(&built.stderr);
    if !built.status.success() && NO_MODULES.iter().any(|sign| said.contains(sign)) {
        return skipped("the modules of Go cannot be had");
    }
    ensure!(built.status.success(), "go build: {said}");
    Ok(Some(to))
}

/// Past the capture of the test runner: whoever reads the output is to know.
fn skipped(why: &str) -> Result<Option<PathBuf>> {
    writeln!(
        std::io::stderr(),
        "SKIPPED: {why}; nothing is known about clients of the original"
    )?;
    Ok(None)
}
