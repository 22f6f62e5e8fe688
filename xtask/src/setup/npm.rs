//! The npm packages that tests/node/package.json names, in a folder of the cache.
//!
//! The folder's name holds a hash of the lock file: a changed lock file gives a new folder, and
//! branches do not disturb each other.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{check, find, output, root};

/// The oldest Node that the scripts run on.
const OLDEST_NODE: (u32, u32) = (18, 19);

/// The folder for the lock file as it is now.
pub fn folder(cache: &Path) -> PathBuf {
    let lock = std::fs::read(source().join("package-lock.json")).unwrap_or_default();
    cache.join(format!("npm-{:016x}", fnv1a(&lock)))
}

/// Installs the packages unless they are there.
pub fn install(cache: &Path) -> Result<()> {
    let bin = [cache.join("bin")];
    let node = find("node", &bin).context("node is missing")?;
    let npm = find("npm", &bin).context("npm is missing")?;
    check_version(&output(Command::new(&node).arg("--version"))?)?;
    let folder = folder(cache);
    if folder.is_dir() {
        return Ok(());
    }
    // Built beside and moved into place whole: an interrupted run leaves nothing half done.
    let building = folder.with_extension("building");
    if building.exists() {
        std::fs::remove_dir_all(&building)?;
    }
    std::fs::create_dir_all(&building)?;
    for file in ["package.json", "package-lock.json", ".npmrc"] {
        std::fs::copy(source().join(file), building.join(file))
            .with_context(|| format!("tests/node/{file}"))?;
    }
    check(Command::new(npm).current_dir(&building).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))
    .context("the npm packages of tests/node could not be installed")?;
    std::fs::rename(&building, &folder)?;
    Ok(())
}

fn source() -> PathBuf {
    root().join("tests").join("node")
}

fn check_version(said: &str) -> Result<()> {
    let mut parts = said
        .trim()
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST_NODE {
        bail!(
            "Node {} is too old: the tests need {}.{} or newer",
            said.trim(),
            OLDEST_NODE.0,
            OLDEST_NODE.1
        );
    }
    Ok(())
}

/// FNV-1a: names a folder, guards nothing.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_node_is_refused_by_version() {
        assert!(check_version("v18.19.0\n").is_ok());
        assert!(check_version("v22.1.0").is_ok());
        let error = check_version("v18.13.0\n").unwrap_err().to_string();
        assert!(
            error.contains("Node v18.13.0 is too old") && error.contains("18.19"),
            "{error}"
        );
    }

    #[test]
    fn the_lock_file_names_no_registry_host() {
        let lock = std::fs::read_to_string(source().join("package-lock.json")).unwrap();
        assert!(!lock.contains("\"resolved\""));
    }

    #[test]
    fn fnv1a_matches_its_published_vector() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
