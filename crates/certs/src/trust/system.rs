//! The trust store of the operating system: curl, language runtimes, Safari, Chrome on macOS.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Action, Outcome, Platform, TrustStores, mark};
use crate::authority::LocalAuthority;

/// A folder for additional roots, and the commands that take notice of what was added or removed.
struct Anchors {
    system: &'static str,
    folder: &'static str,
    added: &'static [&'static str],
    removed: &'static [&'static str],
}

const ANCHORS: [Anchors; 4] = [
    Anchors {
        system: "Fedora, RHEL",
        folder: "/etc/pki/ca-trust/source/anchors",
        added: &["update-ca-trust", "extract"],
        removed: &["update-ca-trust", "extract"],
    },
    Anchors {
        system: "Arch",
        folder: "/etc/ca-certificates/trust-source/anchors",
        added: &["trust", "extract-compat"],
        removed: &["trust", "extract-compat"],
    },
    Anchors {
        system: "openSUSE",
        folder: "/etc/pki/trust/anchors",
        added: &["update-ca-certificates"],
        removed: &["update-ca-certificates", "--fresh"],
    },
    Anchors {
        system: "Debian, Ubuntu, Alpine",
        folder: "/usr/local/share/ca-certificates",
        added: &["update-ca-certificates"],
        removed: &["update-ca-certificates", "--fresh"],
    },
];

impl TrustStores {
    pub(super) fn trust_system(&self, authority: &LocalAuthority) -> Action {
        match self.platform {
            Platform::Linux => self.add_anchor(authority),
            Platform::MacOs => self.keychain("add to the login keychain", "add-trusted-cert", authority),
            Platform::Other => by_hand("add to the system's trust store", authority),
        }
    }

    pub(super) fn untrust_system(&self, authority: &LocalAuthority) -> Action {
        match self.platform {
            Platform::Linux => self.remove_anchor(authority),
            Platform::MacOs => self.keychain(
                "remove the trust from the login keychain",
                "remove-trusted-cert",
                authority,
            ),
            Platform::Other => by_hand("remove from the system's trust store", authority),
        }
    }

    /// Trust settings of the user: no administrator needed, macOS asks the user itself.
    fn keychain(&self, what: &str, command: &str, authority: &LocalAuthority) -> Action {
        let path = authority.ca_path();
        let outcome = match (command, &self.home) {
            ("add-trusted-cert", Some(home)) => {
                let keychain = home.join("Library/Keychains/login.keychain-db");
                self.run(
                    "security",
                    &[&command, &"-r", &"trustRoot", &"-k", &keychain, &path],
                )
            }
            ("add-trusted-cert", None) => Outcome::Failed("the home folder is not known".into()),
            _ => self.run("security", &[&command, &path]),
        };
        Action {
            what: what.into(),
            outcome,
        }
    }

    fn add_anchor(&self, authority: &LocalAuthority) -> Action {
        let Some((anchors, target)) = self.anchor(authority) else {
            return by_hand("add to the system's trust store", authority);
        };
        let what = format!(
            "add to the system's trust store ({}): {}",
            anchors.system,
            target.display()
        );
        let outcome = match fs::write(&target, authority.ca_pem()) {
            Ok(()) => self.run_words(anchors.added),
            Err(error) => failed(&error, || {
                let from = authority.ca_path();
                let (from, target) = (from.display(), target.display());
                format!(
                    "install -m 644 '{from}' '{target}' && sudo {}",
                    anchors.added.join(" ")
                )
            }),
        };
        Action { what, outcome }
    }

    fn remove_anchor(&self, authority: &LocalAuthority) -> Action {
        let what = "remove from the system's trust store";
        let Some((anchors, target)) = self.anchor(authority) else {
            return by_hand(what, authority);
        };
        let outcome = match fs::remove_file(&target) {
            Ok(()) => self.run_words(anchors.removed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Outcome::Skipped("it was not there".into())
            }
            Err(error) => failed(&error, || {
                format!("rm '{}' && sudo {}", target.display(), anchors.removed.join(" "))
            }),
        };
        Action {
            what: format!("{what} ({}): {}", anchors.system, target.display()),
            outcome,
        }
    }

    fn anchor(&self, authority: &LocalAuthority) -> Option<(&'static Anchors, PathBuf)> {
        let anchors = ANCHORS
            .iter()
            .find(|anchors| self.under_root(anchors.folder).is_dir())?;
        let file = format!("pomerium-local-authority-{}.crt", mark(authority));
        Some((anchors, self.under_root(anchors.folder).join(file)))
    }

    fn run_words(&self, words: &[&str]) -> Outcome {
        let Some((program, args)) = words.split_first() else {
            return Outcome::Done;
        };
        let args: Vec<&dyn AsRef<std::ffi::OsStr>> = args.iter().map(|arg| arg as _).collect();
        self.run(program, &args)
    }
}

pub(super) fn failed(error: &io::Error, as_root: impl FnOnce() -> String) -> Outcome {
    Outcome::Failed(if error.kind() == io::ErrorKind::PermissionDenied {
        format!("needs root; run: sudo {}", as_root())
    } else {
        error.to_string()
    })
}

fn by_hand(what: &str, authority: &LocalAuthority) -> Action {
    let why = format!(
        "no known store here; do it by hand with {}",
        authority.ca_path().display()
    );
    Action {
        what: what.into(),
        outcome: Outcome::Skipped(why),
    }
}
