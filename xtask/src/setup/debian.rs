//! Programs from Debian's packages.
//!
//! As root, ordinary packages are installed with apt-get. Without root, and for packages that would
//! start a service of their own, the packages and the dependencies that the machine lacks are unpacked
//! into the cache, with a small starter per program that finds their libraries. What refuses to run as root is
//! unpacked where every user can read it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Purpose;
use crate::run::{check, find, output};

/// A program and the package that brings it.
#[derive(Clone, Copy)]
struct Program {
    name: &'static str,
    package: &'static str,
    /// Where the package puts it; `*` stands for a version.
    path: &'static str,
    /// The package starts a daemon when installed: never do that to someone's machine.
    service: bool,
    /// It refuses to run as root, so that another user must be able to read it.
    humble: bool,
}

const fn program(name: &'static str, package: &'static str, path: &'static str) -> Program {
    Program {
        name,
        package,
        path,
        service: false,
        humble: false,
    }
}

const fn service(name: &'static str, package: &'static str, path: &'static str) -> Program {
    Program {
        name,
        package,
        path,
        service: true,
        humble: false,
    }
}

const fn postgres(name: &'static str, path: &'static str) -> Program {
    Program {
        name,
        package: "postgresql",
        path,
        service: true,
        humble: true,
    }
}

const FOR_TESTS: &[Program] = &[
    program("node", "nodejs", "usr/bin/node"),
    program("npm", "npm", "usr/share/nodejs/npm/bin/npm-cli.js"),
    program("chromium", "chromium", "usr/lib/chromium/chromium"),
    program("curl", "curl", "usr/bin/curl"),
    program("h2load", "nghttp2-client", "usr/bin/h2load"),
    program("openssl", "openssl", "usr/bin/openssl"),
    service("haproxy", "haproxy", "usr/sbin/haproxy"),
    service("nginx", "nginx", "usr/sbin/nginx"),
    // Of systemd, which every Debian has, containers excepted: never started, only unpacked.
    Program {
        name: "systemd-socket-activate",
        package: "systemd",
        path: "usr/bin/systemd-socket-activate",
        service: true,
        humble: false,
    },
    program("pebble", "pebble", "usr/bin/pebble"),
    program("pebble-challtestsrv", "pebble", "usr/bin/pebble-challtestsrv"),
    service("knotd", "knot", "usr/sbin/knotd"),
    POSTGRES[0],
    POSTGRES[1],
];

const POSTGRES: [Program; 2] = [
    postgres("postgres", "usr/lib/postgresql/*/bin/postgres"),
    postgres("initdb", "usr/lib/postgresql/*/bin/initdb"),
];

const FOR_BENCHES: &[Program] = &[
    program("h2load", "nghttp2-client", "usr/bin/h2load"),
    program("openssl", "openssl", "usr/bin/openssl"),
    service("nginx", "nginx", "usr/sbin/nginx"),
    service("haproxy", "haproxy", "usr/sbin/haproxy"),
    POSTGRES[0],
    POSTGRES[1],
];

/// The folder of starters for programs that refuse to run as root.
pub fn humble_bin(cache: &Path) -> PathBuf {
    humble_base(cache).join("bin")
}

fn humble_base(cache: &Path) -> PathBuf {
    match is_root() {
        // Nobody else looks into root's home.
        true => PathBuf::from("/var/cache/pomerium/tools"),
        false => cache.to_owned(),
    }
}

/// Installs what is missing for `purpose`.
pub fn install(cache: &Path, purpose: Purpose) -> Result<()> {
    let wanted = match purpose {
        Purpose::Test => FOR_TESTS,
        Purpose::Bench => FOR_BENCHES,
    };
    let missing: Vec<&Program> = wanted
        .iter()
        .filter(|program| !is_there(cache, program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get", &[]).is_none() {
        let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
        bail!(
            "missing: {}. This machine has no apt-get; install them with its own package manager",
            names.join(", ")
        );
    }
    let (apart, together): (Vec<&Program>, Vec<&Program>) =
        missing.iter().partition(|program| program.service || !is_root());
    install_with_apt(&together)?;
    let (humble, others): (Vec<&Program>, Vec<&Program>) =
        apart.into_iter().partition(|program| program.humble);
    unpack_into(cache, &others)?;
    unpack_into(&humble_base(cache), &humble)
}

fn is_there(cache: &Path, program: &Program) -> bool {
    let bin = match program.humble {
        true => humble_bin(cache),
        false => cache.join("bin"),
    };
    // Debian keeps the programs of each version of PostgreSQL in a folder that is on no PATH.
    find(program.name, &[bin]).is_some()
        || (program.humble && located(Path::new("/"), program.path).is_some())
}

/// A file below `root`; a part of `path` that is `*` may have any name.
fn located(root: &Path, path: &str) -> Option<PathBuf> {
    let Some((before, after)) = path.split_once("*/") else {
        return Some(root.join(path)).filter(|path| path.exists());
    };
    let entries = std::fs::read_dir(root.join(before)).ok()?;
    entries.flatten().find_map(|entry| located(&entry.path(), after))
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn install_with_apt(programs: &[&Program]) -> Result<()> {
    if programs.is_empty() {
        return Ok(());
    }
    let packages = programs.iter().map(|program| program.package);
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages.clone());
    // The lists may be old or absent; a second try with fresh ones says what is really wrong.
    if output(&mut install).is_ok() {
        return Ok(());
    }
    check(Command::new("apt-get").args(["update", "-q"]))?;
    check(&mut install).context("Debian's packages for the tests could not be installed")
}

fn unpack_into(cache: &Path, programs: &[&Program]) -> Result<()> {
    if programs.is_empty() {
        return Ok(());
    }
    let apt = Apt::private(&cache.join("apt"))?;
    let packages: Vec<&str> = programs.iter().map(|program| program.package).collect();
    let all = apt.with_dependencies(&packages)?;
    let downloads = cache.join("apt").join("downloads");
    let root = cache.join("root");
    std::fs::create_dir_all(&downloads)?;
    std::fs::create_dir_all(&root)?;
    check(
        apt.get()
            .current_dir(&downloads)
            .args(["download", "-q"])
            .args(&all),
    )?;
    for entry in std::fs::read_dir(&downloads)? {
        let package = entry?.path();
        check(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
        std::fs::remove_file(&package)?;
    }
    programs
        .iter()
        .try_for_each(|program| write_starter(cache, &root, program))
}

/// apt-get with state of its own, so that it needs no root and sees fresh lists.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn private(folder: &Path) -> Result<Apt> {
        let lists = folder.join("lists");
        let archives = folder.join("archives");
        std::fs::create_dir_all(lists.join("partial"))?;
        std::fs::create_dir_all(archives.join("partial"))?;
        let options = vec![
            format!("-oDir::State::lists={}", lists.display()),
            format!("-oDir::Cache={}", archives.display()),
            "-oDebug::NoLocking=1".into(),
            "-oAPT::Sandbox::User=".into(),
        ];
        let apt = Apt { options };
        check(apt.get().args(["update", "-q"]))?;
        Ok(apt)
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(&self.options);
        command
    }

    /// The packages and everything they need that is not installed yet.
    fn with_dependencies(&self, packages: &[&str]) -> Result<Vec<String>> {
        let plan = output(
            self.get()
                .args(["-s", "install", "--no-install-recommends"])
                .args(packages),
        )?;
        let mut all = planned(&plan);
        // A package may be installed and yet not be found, when its folder is not on the PATH.
        all.extend(packages.iter().map(ToString::to_string));
        all.sort();
        all.dedup();
        Ok(all)
    }
}

/// Package names of the `Inst name (version …)` lines of a simulated installation.
fn planned(plan: &str) -> Vec<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .filter_map(|rest| rest.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn write_starter(cache: &Path, root: &Path, program: &Program) -> Result<()> {
    let Some(target) = located(root, program.path) else {
        bail!("the package {} holds no {}", program.package, program.path);
    };
    let libraries = library_folders(root)?;
    let libraries: Vec<String> = libraries
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    let script = format!(
        "#!/bin/sh\n\
         export LD_LIBRARY_PATH='{}'\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         export NODE_PATH='{}'\n\
         exec '{}' \"$@\"\n",
        libraries.join(":"),
        root.join("usr/share/nodejs").display(),
        target.display()
    );
    let starter = cache.join("bin").join(program.name);
    std::fs::create_dir_all(cache.join("bin"))?;
    std::fs::write(&starter, script)?;
    std::fs::set_permissions(&starter, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `usr/lib/<triplet>` and its subfolders that packages put libraries into.
fn library_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for base in ["usr/lib", "lib"] {
        let base = root.join(base);
        if !base.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&base)? {
            let folder = entry?.path();
            if folder.is_dir() && folder.to_string_lossy().contains("-linux-") {
                found.push(folder);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_names_packages_without_versions() {
        let plan =
            "Reading...\nInst liba2 (1.0 Debian:12/stable [amd64])\nInst app [1] (2.0 x)\nConf app (2.0)\n";
        assert_eq!(planned(plan), ["liba2", "app"]);
    }

    #[test]
    fn a_starter_finds_its_libraries_and_passes_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::create_dir_all(root.join("usr/lib/x86_64-linux-gnu")).unwrap();
        let tool = root.join("usr/bin/tool");
        std::fs::write(&tool, "#!/bin/sh\necho \"$1|$LD_LIBRARY_PATH\"\n").unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        write_starter(folder.path(), &root, &program("tool", "tool", "usr/bin/tool")).unwrap();
        let said = output(
            Command::new(folder.path().join("bin/tool"))
                .arg("a b")
                .env_remove("LD_LIBRARY_PATH"),
        );
        let expected = format!("a b|{}\n", root.join("usr/lib/x86_64-linux-gnu").display());
        assert_eq!(said.unwrap(), expected);
    }

    #[test]
    fn a_program_is_found_whatever_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("usr/lib/postgresql/17/bin");
        std::fs::create_dir_all(&bin).unwrap();
        assert_eq!(located(folder.path(), POSTGRES[0].path), None);
        std::fs::write(bin.join("postgres"), "").unwrap();
        assert_eq!(
            located(folder.path(), POSTGRES[0].path),
            Some(bin.join("postgres"))
        );
    }
}
