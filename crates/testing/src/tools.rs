//! Where the programs and scripts for tests are.
//!
//! `cargo xtask test` sets the variables. A plain `cargo test` finds the same places by itself when
//! `cargo xtask setup` ran before.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The root of the clone: the folder with the lock file, above the package that cargo runs or above the
/// current folder. Not a path compiled in, which may be that of another clone with the same build folder.
pub fn root() -> PathBuf {
    let start = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let start = start.canonicalize().unwrap_or(start);
    let root = start
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file());
    root.unwrap_or(&start).to_path_buf()
}

/// The folder for screenshots and other things that a person looks at after a run.
///
/// # Errors
/// It cannot be made.
pub fn artifacts() -> Result<PathBuf> {
    let folder = root().join("tests").join("artifacts");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A Node command that runs `tests/node/<script>` with the npm packages in reach.
///
/// # Errors
/// Node or the packages are missing; the error says what to run.
pub fn node(script: &str) -> Result<Command> {
    let folder = root().join("tests").join("node");
    let modules = node_modules()?;
    let mut command = Command::new(find("node")?);
    command
        .arg("--no-warnings")
        .arg("--import")
        .arg(folder.join("resolve.mjs"))
        .arg(folder.join(script))
        .env("POMERIUM_TEST_NODE_MODULES", modules);
    Ok(command)
}

/// The folder `node_modules`.
fn node_modules() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("POMERIUM_TEST_NODE_MODULES") {
        return Ok(folder.into());
    }
    let newest = newest("npm-")?.map(|folder| folder.join("node_modules"));
    newest.context("the npm packages for tests are missing: run `cargo xtask setup`")
}

/// A Python command that runs `tests/python/<script>` with the packages of its requirements.txt.
///
/// # Errors
/// The packages are missing; the error says what to run.
pub fn python(script: &str) -> Result<Command> {
    let environment = match std::env::var_os("POMERIUM_TEST_PYTHON") {
        Some(folder) => PathBuf::from(folder),
        None => newest("python-")?
            .context("the Python packages for tests are missing: run `cargo xtask setup`")?,
    };
    let mut command = Command::new(environment.join("bin").join("python"));
    command
        .arg("-u")
        .arg(root().join("tests").join("python").join(script));
    Ok(command)
}

/// The folder of the cache with this prefix that was made last.
///
/// # Errors
/// There is no place for a cache.
pub fn newest(prefix: &str) -> Result<Option<PathBuf>> {
    let newest = std::fs::read_dir(cache()?)
        .ok()
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(prefix) && !name.contains('.')
        })
        .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        .map(|entry| entry.path());
    Ok(newest)
}

fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(base.join("pomerium").join("tools"))
}

/// A program on the PATH, or in the cache.
///
/// # Errors
/// It is missing; the error says what to run.
pub fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .chain(cache().ok().map(|cache| cache.join("bin")))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{program} is missing: run `cargo xtask setup`"))
}

/// The `pomerium` binary: `POMERIUM_BIN`, else built once per test process.
///
/// # Errors
/// It does not build.
pub fn server() -> Result<PathBuf> {
    static SERVER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("POMERIUM_BIN") {
        return Ok(path.into());
    }
    SERVER
        .get_or_init(|| build_server().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn build_server() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = std::process::Command::new(cargo)
        .current_dir(root())
        .args([
            "build",
            "--quiet",
            "--package",
            "pomerium",
            "--bin",
            "pomerium",
            "--message-format=json",
        ])
        .output()?;
    if !built.status.success() {
        bail!(
            "the server does not build:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
    }
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "pomerium")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo names no executable")
}
