//! Gets what tests and benchmarks need that cargo does not bring: a browser, Node with a few npm
//! and Python packages, HTTP tools, PostgreSQL; for benchmarks the proxies to compare with.
//!
//! What the machine has is used as it is. The rest goes into the cache (`$XDG_CACHE_HOME/pomerium/tools`
//! or `~/.cache/pomerium/tools`), never into the clone. Several runs at once wait for each other.
//! Start at [`run`].

mod debian;
mod npm;
mod python;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What the tools are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// `cargo xtask test`
    Test,
    /// `cargo xtask bench`
    Bench,
}

/// Where the tools are.
#[derive(Debug)]
pub struct Tools {
    cache: PathBuf,
    envoy: Option<PathBuf>,
}

impl Tools {
    /// PATH with the cache's programs behind the machine's own.
    pub fn path(&self) -> OsString {
        let mut folders: Vec<PathBuf> =
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
        folders.push(self.cache.join("bin"));
        std::env::join_paths(folders).unwrap_or_default()
    }

    /// The folder `node_modules` that holds what tests/node/package.json names.
    pub fn node_modules(&self) -> PathBuf {
        npm::folder(&self.cache).join("node_modules")
    }

    /// The virtual environment with what tests/python/requirements.txt names.
    pub fn python(&self) -> PathBuf {
        python::LIBRARIES.folder(&self.cache)
    }

    /// The folder with the proxies that tests/python/proxies.txt names.
    pub fn proxies(&self) -> PathBuf {
        python::PROXIES.folder(&self.cache).join("bin")
    }

    /// The folder with starters of PostgreSQL's programs, where the machine itself has none.
    pub fn postgres(&self) -> PathBuf {
        debian::humble_bin(&self.cache)
    }

    /// Envoy's program, when it could be had.
    pub fn envoy(&self) -> Option<&Path> {
        self.envoy.as_deref()
    }

    /// Says where things are.
    pub fn print(&self) {
        println!("tools:        {}", self.cache.join("bin").display());
        println!("npm packages: {}", self.node_modules().display());
        println!("Python:       {}", self.python().display());
    }
}

/// The folder for everything that is fetched.
pub fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set; one of them says where the cache is")?;
    Ok(base.join("pomerium").join("tools"))
}

/// The tools as far as they are there already; fetches nothing.
pub fn present(_purpose: Purpose) -> Tools {
    Tools {
        cache: cache().unwrap_or_default(),
        envoy: None,
    }
}

/// Gets what is missing for `purpose`.
pub fn run(purpose: Purpose) -> Result<Tools> {
    let cache = cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = File::create(cache.join(".lock")).context("cannot make the lock file of the cache")?;
    lock.lock().context("cannot lock the cache")?;
    debian::install(&cache, purpose)?;
    let envoy = match purpose {
        Purpose::Test => {
            npm::install(&cache)?;
            python::install_packages(python::LIBRARIES, &cache)?;
            python::install_packages(python::PROXIES, &cache)?;
            None
        }
        Purpose::Bench => python::envoy(&cache),
    };
    Ok(Tools { cache, envoy })
}
