//! The databases of Firefox, and of Chrome on Linux (NSS), through `certutil`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Action, Outcome, Platform, TrustStores, mark};
use crate::authority::LocalAuthority;

/// Databases by themselves, under the home folder.
const SHARED: [(&str, &str); 2] = [
    ("Chrome, Chromium", ".pki/nssdb"),
    ("Chromium (snap)", "snap/chromium/current/.pki/nssdb"),
];
/// Folders of Firefox profiles, each with a database.
const PROFILES: [&str; 3] = [
    ".mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
];
const PROFILES_MACOS: [&str; 1] = ["Library/Application Support/Firefox/Profiles"];

struct Database {
    browser: String,
    folder: PathBuf,
}

impl TrustStores {
    pub(super) fn trust_browsers(&self, authority: &LocalAuthority) -> Vec<Action> {
        self.each_database("add to", |argument| {
            let (name, path) = (nickname(authority), authority.ca_path());
            self.certutil(&[&"-A", &"-d", &argument, &"-t", &"C,,", &"-n", &name, &"-i", &path])
        })
    }

    pub(super) fn untrust_browsers(&self, authority: &LocalAuthority) -> Vec<Action> {
        self.each_database("remove from", |argument| {
            let name = nickname(authority);
            match self.certutil(&[&"-L", &"-d", &argument, &"-n", &name]) {
                Outcome::Done => self.certutil(&[&"-D", &"-d", &argument, &"-n", &name]),
                Outcome::Failed(why) if why.starts_with("certutil:") => {
                    Outcome::Skipped("it was not there".into())
                }
                other => other,
            }
        })
    }

    fn each_database(&self, verb: &str, act: impl Fn(&str) -> Outcome) -> Vec<Action> {
        let databases = self.databases();
        if databases.is_empty() {
            let why = "no browser database found; start the browser once and try again".into();
            return vec![Action {
                what: format!("{verb} Firefox and Chrome"),
                outcome: Outcome::Skipped(why),
            }];
        }
        let one = |database: &Database| Action {
            what: format!("{verb} {}: {}", database.browser, database.folder.display()),
            outcome: act(&format!("sql:{}", database.folder.display())),
        };
        databases.iter().map(one).collect()
    }

    fn certutil(&self, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Outcome {
        self.run_or("certutil", args, |error| match error.kind() {
            io::ErrorKind::NotFound => {
                "needs certutil, which is not installed (Debian: libnss3-tools, Fedora: nss-tools, macOS: nss)".into()
            }
            _ => format!("certutil could not be started: {error}"),
        })
    }

    fn databases(&self) -> Vec<Database> {
        let Some(home) = &self.home else { return Vec::new() };
        let profiles: &[&str] = match self.platform {
            Platform::Linux => &PROFILES,
            Platform::MacOs => &PROFILES_MACOS,
            Platform::Other => &[],
        };
        let shared = SHARED.iter().filter(|_| self.platform == Platform::Linux);
        let mut found: Vec<_> = shared
            .map(|(browser, folder)| Database {
                browser: (*browser).into(),
                folder: home.join(folder),
            })
            .chain(
                profiles
                    .iter()
                    .flat_map(|folder| firefox_profiles(&home.join(folder))),
            )
            .filter(|database| database.folder.join("cert9.db").is_file())
            .collect();
        found.sort_by(|a, b| a.folder.cmp(&b.folder));
        found
    }
}

fn firefox_profiles(folder: &Path) -> Vec<Database> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let profile = |entry: fs::DirEntry| Database {
        browser: format!("Firefox (profile {})", entry.file_name().display()),
        folder: entry.path(),
    };
    entries.filter_map(Result::ok).map(profile).collect()
}

fn nickname(authority: &LocalAuthority) -> String {
    format!("Pomerium local authority {}", mark(authority))
}
