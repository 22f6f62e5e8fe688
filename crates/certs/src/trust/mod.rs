//! Making browsers and tools on this machine trust the local authority, and the undoing.
//!
//! Each store is one [`Action`]; a store that fails does not keep the others from being tried. Nothing here
//! asks for rights it does not have: what needs root says which command to run. The calls wait for other
//! programs, so run them where waiting is allowed.

mod nss;
mod system;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::authority::LocalAuthority;

/// One store, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What was tried, as in "add to Firefox (profile default)".
    pub what: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How an [`Action`] went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or done before.
    Done,
    /// There was nothing to do; why.
    Skipped(String),
    /// Not done; why, and what to do.
    Failed(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Done => write!(f, "done: {}", self.what),
            Outcome::Skipped(why) => write!(f, "skipped: {} ({why})", self.what),
            Outcome::Failed(why) => write!(f, "failed: {} ({why})", self.what),
        }
    }
}

/// The places where trust is kept.
pub struct TrustStores {
    platform: Platform,
    /// `/`, elsewhere in tests.
    root: PathBuf,
    home: Option<PathBuf>,
    commands: Box<dyn Commands>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Platform {
    Linux,
    MacOs,
    Other,
}

/// Runs other programs.
trait Commands {
    /// Waits for `program`. `Err` when it could not be started.
    fn run(&self, program: &str, args: &[&OsStr]) -> io::Result<Ran>;
}

/// How a program ended.
struct Ran {
    success: bool,
    /// The last line it wrote to its error output.
    complaint: String,
}

impl TrustStores {
    /// Those of this machine and of the user whose home folder is `home`.
    #[must_use]
    pub fn of_this_machine(home: Option<PathBuf>) -> Self {
        let platform = match std::env::consts::OS {
            "linux" => Platform::Linux,
            "macos" => Platform::MacOs,
            _ => Platform::Other,
        };
        Self {
            platform,
            root: "/".into(),
            home,
            commands: Box::new(RealCommands),
        }
    }

    /// Adds `authority` to every store found.
    #[must_use]
    pub fn trust(&self, authority: &LocalAuthority) -> Vec<Action> {
        let mut actions = vec![self.trust_system(authority)];
        actions.extend(self.trust_browsers(authority));
        actions
    }

    /// Takes `authority` out of every store found.
    #[must_use]
    pub fn untrust(&self, authority: &LocalAuthority) -> Vec<Action> {
        let mut actions = vec![self.untrust_system(authority)];
        actions.extend(self.untrust_browsers(authority));
        actions
    }

    fn run(&self, program: &str, args: &[&dyn AsRef<OsStr>]) -> Outcome {
        self.run_or(program, args, |error| {
            format!("{program} could not be started: {error}")
        })
    }

    fn run_or(
        &self,
        program: &str,
        args: &[&dyn AsRef<OsStr>],
        not_started: impl Fn(&io::Error) -> String,
    ) -> Outcome {
        let args: Vec<_> = args.iter().map(|arg| arg.as_ref()).collect();
        match self.commands.run(program, &args) {
            Ok(Ran { success: true, .. }) => Outcome::Done,
            Ok(Ran { complaint, .. }) => Outcome::Failed(format!("{program}: {complaint}")),
            Err(error) => Outcome::Failed(not_started(&error)),
        }
    }

    fn under_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl fmt::Debug for TrustStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustStores")
            .field("platform", &self.platform)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

/// What tells this authority from those of other folders, in names of files and entries.
fn mark(authority: &LocalAuthority) -> String {
    authority.fingerprint().chars().take(8).collect()
}

struct RealCommands;

impl Commands for RealCommands {
    fn run(&self, program: &str, args: &[&OsStr]) -> io::Result<Ran> {
        let start = |program: &Path| Command::new(program).args(args).stdin(Stdio::null()).output();
        let output = match start(Path::new(program)) {
            // Not everybody has the administrator's folders on the path.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                start(&Path::new("/usr/sbin").join(program))?
            }
            other => other?,
        };
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no reason given");
        Ok(Ran {
            success: output.status.success(),
            complaint: complaint.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
