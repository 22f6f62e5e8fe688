//! Trust stores played by folders and a record of the programs that would have run.

use std::fs;
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;

/// A machine with a root folder, a home folder, and programs that answer as told.
struct Machine {
    root: TempDir,
    home: TempDir,
    authority_folder: TempDir,
    ran: Arc<Mutex<Vec<String>>>,
}

struct Recorded {
    ran: Arc<Mutex<Vec<String>>>,
    missing: &'static [&'static str],
    failing: &'static [&'static str],
}

impl Commands for Recorded {
    fn run(&self, program: &str, args: &[&OsStr]) -> io::Result<Ran> {
        if self.missing.contains(&program) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        let line = format!("{program} {}", args.join(" "));
        let success = !self.failing.iter().any(|start| line.starts_with(start));
        self.ran.lock().push(line);
        Ok(Ran {
            success,
            complaint: "bad database".into(),
        })
    }
}

impl Machine {
    fn new(folders: &[&str], databases: &[&str]) -> Self {
        let [root, home, authority_folder] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        for folder in folders {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for database in databases {
            fs::create_dir_all(home.path().join(database)).unwrap();
            fs::write(home.path().join(database).join("cert9.db"), "").unwrap();
        }
        Self {
            root,
            home,
            authority_folder,
            ran: Arc::default(),
        }
    }

    fn authority(&self) -> LocalAuthority {
        LocalAuthority::open_or_create(self.authority_folder.path(), 1_800_000_000).unwrap()
    }

    fn stores(
        &self,
        platform: Platform,
        missing: &'static [&'static str],
        failing: &'static [&'static str],
    ) -> TrustStores {
        let commands = Box::new(Recorded {
            ran: self.ran.clone(),
            missing,
            failing,
        });
        TrustStores {
            platform,
            root: self.root.path().into(),
            home: Some(self.home.path().into()),
            commands,
        }
    }

    fn take_ran(&self) -> Vec<String> {
        std::mem::take(&mut self.ran.lock())
    }
}

fn outcomes(actions: &[Action]) -> Vec<&Outcome> {
    actions.iter().map(|action| &action.outcome).collect()
}

const DEBIAN: &str = "usr/local/share/ca-certificates";
const CHROME: &str = ".pki/nssdb";
const FIREFOX: &str = ".mozilla/firefox/abc.default";

#[test]
fn debian_with_two_browsers_there_and_back() {
    let machine = Machine::new(&[DEBIAN], &[CHROME, FIREFOX]);
    let (authority, stores) = (machine.authority(), machine.stores(Platform::Linux, &[], &[]));
    let mark = mark(&authority);

    let actions = stores.trust(&authority);
    assert_eq!(outcomes(&actions), [&Outcome::Done; 3]);
    let file = machine
        .root
        .path()
        .join(DEBIAN)
        .join(format!("pomerium-local-authority-{mark}.crt"));
    assert_eq!(fs::read_to_string(&file).unwrap(), authority.ca_pem());
    let database = |name: &str| format!("sql:{}", machine.home.path().join(name).display());
    let add = |name: &str| {
        let path = authority.ca_path();
        format!(
            "certutil -A -d {} -t C,, -n Pomerium local authority {mark} -i {}",
            database(name),
            path.display()
        )
    };
    assert_eq!(
        machine.take_ran(),
        ["update-ca-certificates ".to_owned(), add(FIREFOX), add(CHROME)]
    );

    let actions = stores.untrust(&authority);
    assert_eq!(outcomes(&actions), [&Outcome::Done; 3]);
    assert!(!file.exists());
    let ran = machine.take_ran();
    assert_eq!(ran[0], "update-ca-certificates --fresh");
    assert_eq!(
        ran[2],
        format!(
            "certutil -D -d {} -n Pomerium local authority {mark}",
            database(FIREFOX)
        )
    );
    assert_eq!(ran.len(), 5);
}

#[test]
fn each_distribution_has_its_folder_and_command() {
    for (folder, command) in [
        ("etc/pki/ca-trust/source/anchors", "update-ca-trust extract"),
        ("etc/ca-certificates/trust-source/anchors", "trust extract-compat"),
        ("etc/pki/trust/anchors", "update-ca-certificates "),
    ] {
        let machine = Machine::new(&[folder], &[]);
        let (authority, stores) = (machine.authority(), machine.stores(Platform::Linux, &[], &[]));
        let actions = stores.trust(&authority);
        assert_eq!(actions[0].outcome, Outcome::Done, "{folder}");
        assert_eq!(machine.take_ran(), [command]);
        assert!(matches!(actions[1].outcome, Outcome::Skipped(_)), "no browser");
    }
}

#[test]
fn macos_uses_the_users_keychain() {
    let profile = "Library/Application Support/Firefox/Profiles/x.default";
    let machine = Machine::new(&[], &[profile, CHROME]);
    let (authority, stores) = (machine.authority(), machine.stores(Platform::MacOs, &[], &[]));
    assert_eq!(outcomes(&stores.trust(&authority)), [&Outcome::Done; 2]);
    let ran = machine.take_ran();
    let keychain = machine.home.path().join("Library/Keychains/login.keychain-db");
    let path = authority.ca_path();
    let expected = format!(
        "security add-trusted-cert -r trustRoot -k {} {}",
        keychain.display(),
        path.display()
    );
    assert_eq!(ran[0], expected);
    assert!(ran[1].starts_with("certutil -A") && ran[1].contains(profile));
    let _ = stores.untrust(&authority);
    assert_eq!(
        machine.take_ran()[0],
        format!("security remove-trusted-cert {}", path.display())
    );
}

#[test]
fn what_was_never_added_is_not_removed() {
    let machine = Machine::new(&[DEBIAN], &[CHROME]);
    let stores = machine.stores(Platform::Linux, &[], &["certutil -L"]);
    let skipped = Outcome::Skipped("it was not there".into());
    assert_eq!(outcomes(&stores.untrust(&machine.authority())), [&skipped; 2]);
    assert!(
        machine
            .take_ran()
            .iter()
            .all(|line| line.starts_with("certutil -L"))
    );
}

#[test]
fn one_failing_store_does_not_stop_the_others() {
    let machine = Machine::new(&[DEBIAN], &[CHROME, FIREFOX]);
    let stores = machine.stores(
        Platform::Linux,
        &["update-ca-certificates"],
        &["certutil -A -d sql:"],
    );
    let actions = stores.trust(&machine.authority());
    assert!(matches!(&actions[0].outcome, Outcome::Failed(why) if why.contains("could not be started")));
    for action in &actions[1..] {
        assert_eq!(action.outcome, Outcome::Failed("certutil: bad database".into()));
    }
    assert!(
        actions[1]
            .to_string()
            .starts_with("failed: add to Firefox (profile abc.default): ")
    );
}

#[test]
fn a_missing_certutil_says_what_to_install() {
    let machine = Machine::new(&[DEBIAN], &[CHROME]);
    let stores = machine.stores(Platform::Linux, &["certutil"], &[]);
    let authority = machine.authority();
    for actions in [stores.trust(&authority), stores.untrust(&authority)] {
        assert!(
            matches!(&actions[1].outcome, Outcome::Failed(why) if why.contains("libnss3-tools")),
            "{actions:?}"
        );
    }
}

#[test]
fn unknown_systems_are_told_to_do_it_by_hand() {
    let machine = Machine::new(&[], &[CHROME]);
    for platform in [Platform::Linux, Platform::Other] {
        let stores = machine.stores(platform, &["certutil"], &[]);
        let authority = machine.authority();
        let path = authority.ca_path().display().to_string();
        let actions = stores.trust(&authority);
        assert!(
            matches!(&actions[0].outcome, Outcome::Skipped(why) if why.contains(&path)),
            "{actions:?}"
        );
    }
}

#[test]
fn lacking_rights_names_the_command_to_run() {
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let outcome = system::failed(&denied, || "install a b".into());
    assert_eq!(
        outcome,
        Outcome::Failed("needs root; run: sudo install a b".into())
    );
}

/// The real runner, with programs every system has.
#[cfg(unix)]
#[test]
fn programs_are_run_and_their_last_words_kept() {
    let run = |script: &str| {
        RealCommands
            .run("sh", &[OsStr::new("-c"), OsStr::new(script)])
            .unwrap()
    };
    assert!(run("exit 0").success);
    let failed = run("echo first >&2; echo last >&2; echo >&2; exit 3");
    assert!(!failed.success);
    assert_eq!(failed.complaint, "last");
    let missing = RealCommands.run("no-such-program-anywhere", &[]).err().unwrap();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

/// A real database, a real `certutil`.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs certutil (Debian: libnss3-tools)"]
fn a_real_nss_database() {
    let machine = Machine::new(&[], &[]);
    let folder = machine.home.path().join(CHROME);
    fs::create_dir_all(&folder).unwrap();
    let database = format!("sql:{}", folder.display());
    let certutil = |args: &[&str]| {
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        RealCommands.run("certutil", &args).unwrap().success
    };
    assert!(certutil(&["-N", "-d", &database, "--empty-password"]));
    let mut stores = machine.stores(Platform::Linux, &[], &[]);
    stores.commands = Box::new(RealCommands);
    let authority = machine.authority();
    let name = format!("Pomerium local authority {}", mark(&authority));
    let present = || certutil(&["-L", "-d", &database, "-n", &name]);

    assert_eq!(stores.trust(&authority)[1].outcome, Outcome::Done);
    assert_eq!(
        stores.trust(&authority)[1].outcome,
        Outcome::Done,
        "adding twice is fine"
    );
    assert!(present());
    assert_eq!(stores.untrust(&authority)[1].outcome, Outcome::Done);
    assert!(!present());
    assert_eq!(
        stores.untrust(&authority)[1].outcome,
        Outcome::Skipped("it was not there".into())
    );
}
