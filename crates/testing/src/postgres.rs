//! A PostgreSQL server of its own, on a temporary folder and a UNIX socket; with TLS, also on a port of 127.0.0.1.
//!
//! This file is compiled into two places, here and in the tests of the databroker, which must not depend on this
//! room: it uses the standard library, `tempfile` and `anyhow` only.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};

/// Names the folder that `cargo xtask test` has put the programs into.
const FOLDER: &str = "POMERIUM_TEST_POSTGRES";
/// Whom the server runs as when the tests run as root, which it refuses.
const NOBODY: u32 = 65534;
/// How often a server is started that does not come up: after a crash its former children may still hold its memory.
const TRIES: usize = 20;

/// Who may come how to a server with TLS.
const RULES: &str = "local all all trust
hostssl certified all 127.0.0.1/32 trust clientcert=verify-ca
host certified all 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
";

/// What a server with TLS is made of, as PEM.
pub struct Tls<'a> {
    /// Its certificate.
    pub certificate: &'a str,
    /// The key of that.
    pub key: &'a str,
    /// Whose certificates clients may show.
    pub authority: &'a str,
}

/// A running server. It ends when this is dropped, or when the process that tests ends.
pub struct Postgres {
    folder: tempfile::TempDir,
    settings: Vec<String>,
    process: Option<Child>,
    port: Option<u16>,
}

impl Postgres {
    /// A database for which a server with TLS wants a certificate of the client.
    pub const CERTIFIED: &str = "certified";

    /// Makes and starts one.
    ///
    /// # Errors
    /// The programs are missing, or do not do as they are told; with what they say.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with settings (`name=value`) over those for tests.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        let usual = ["listen_addresses=", "fsync=off", "max_connections=400"];
        let mut server = Self {
            folder: new_cluster()?,
            settings: usual.iter().chain(settings).map(ToString::to_string).collect(),
            process: None,
            port: None,
        };
        server.go_on()?;
        Ok(server)
    }

    /// One that takes TLS and plain text on a [port](Self::port) as well; who comes to [`Self::CERTIFIED`] there must show a
    /// certificate.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_tls(tls: &Tls<'_>) -> Result<Self> {
        let folder = new_cluster()?;
        let data = folder.path().join("data");
        std::fs::write(data.join("pg_hba.conf"), RULES)?;
        let files = [
            ("server.crt", tls.certificate),
            ("server.key", tls.key),
            ("clients.crt", tls.authority),
        ];
        for (name, text) in files {
            let path = data.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            give_away(&path)?;
        }
        let mut server = Self {
            folder,
            settings: vec![
                String::new(),
                "listen_addresses=127.0.0.1".into(),
                "ssl=on".into(),
                "ssl_ca_file=clients.crt".into(),
                "fsync=off".into(),
            ],
            process: None,
            port: None,
        };
        let mut said = String::new();
        for _ in 0..TRIES {
            // Somebody else may be there before the server is.
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            server.settings[0] = format!("port={port}");
            server.port = Some(port);
            (server.process, said) = server.try_start()?;
            if server.process.is_some() {
                return Ok(server);
            }
        }
        bail!("PostgreSQL does not start: {said}")
    }

    /// The port of a server with TLS.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Stops it where it is, with all its children: it is there and says nothing, until [`Self::wake_up`].
    ///
    /// # Errors
    /// It does not run, or cannot be told.
    pub fn fall_silent(&self) -> Result<()> {
        let process = self.process.as_ref().context("PostgreSQL does not run")?;
        // First the one that makes the others.
        signal("-STOP", &[process.id()])?;
        signal("-STOP", &children(process.id())?)
    }

    /// Lets it go on after [`Self::fall_silent`].
    ///
    /// # Errors
    /// As there.
    pub fn wake_up(&self) -> Result<()> {
        let process = self.process.as_ref().context("PostgreSQL does not run")?;
        signal("-CONT", &children(process.id())?)?;
        signal("-CONT", &[process.id()])
    }

    /// Ends it as a crash would, connections included; [`Self::go_on`] brings it back with its data.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn crash(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        signal("-QUIT", &[process.id()])?;
        process.wait()?;
        Ok(())
    }

    /// Starts it on its folder, unless it runs.
    ///
    /// # Errors
    /// It does not come up; with what it says.
    pub fn go_on(&mut self) -> Result<()> {
        let mut said = String::new();
        for _ in 0..TRIES {
            if self.process.is_some() {
                return Ok(());
            }
            (self.process, said) = self.try_start()?;
        }
        match self.process {
            Some(_) => Ok(()),
            None => bail!("PostgreSQL does not start: {said}"),
        }
    }

    fn try_start(&self) -> Result<(Option<Child>, String)> {
        let mut command = humbly(&program("postgres")?)?;
        command.arg("-D").arg(self.folder.path().join("data"));
        command.arg("-k").arg(self.folder.path());
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = spawn_to_stay(command)?;
        let errors = process.stderr.take().context("its log")?;
        let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
        let mut said = String::new();
        for line in lines.by_ref() {
            if line.contains("ready to accept connections") {
                // Whatever else it says is read, so that it never waits.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok((Some(process), said));
            }
            said.push_str(&line);
            said.push('\n');
        }
        process.wait()?;
        Ok((None, said))
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// A connection string to a database.
    pub fn connection(&self, database: &str) -> String {
        let port = self.port.map(|port| format!(" port={port}")).unwrap_or_default();
        format!(
            "host={} user=postgres dbname={database}{port}",
            self.socket().display()
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A folder with the files of a server in `data`.
fn new_cluster() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    give_away(folder.path())?;
    let made = humbly(&program("initdb")?)?
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
        .args(["--locale=C", "--no-sync", "-D"])
        .arg(folder.path().join("data"))
        .output()
        .context("initdb")?;
    if !made.status.success() {
        bail!("initdb: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(folder)
}

/// To whom the server runs as.
fn give_away(path: &Path) -> Result<()> {
    if is_root()? {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

fn signal(name: &str, processes: &[u32]) -> Result<()> {
    let ids = processes.iter().map(ToString::to_string);
    let told = Command::new("kill").arg(name).args(ids).status()?;
    if !told.success() {
        bail!("PostgreSQL cannot be told: kill {name}");
    }
    Ok(())
}

/// The processes that one has started.
fn children(of: u32) -> Result<Vec<u32>> {
    let wanted = format!("PPid:\t{of}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is nobody's child.
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == wanted) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Starts it from a thread that stays: a program that dies with its parent dies with the thread that started it.
fn spawn_to_stay(command: Command) -> Result<Child> {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: std::sync::OnceLock<mpsc::Sender<Job>> = std::sync::OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in queue {
                let _ = reply.send(command.spawn());
            }
        });
        jobs
    });
    let (reply, answer) = mpsc::channel();
    starter
        .send((command, reply))
        .ok()
        .context("the starter is gone")?;
    answer
        .recv()
        .context("the starter is gone")?
        .context("PostgreSQL cannot be started")
}

fn program(name: &str) -> Result<PathBuf> {
    let fetched = std::env::var_os(FOLDER).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"));
    fetched
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(packaged)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("{name} of PostgreSQL is missing: `cargo xtask test` gets it"))
}

/// The command, as somebody else than root, to die with whoever started it.
fn humbly(program: &Path) -> Result<Command> {
    let mut command = Command::new("setpriv");
    if is_root()? {
        command.args([
            &format!("--reuid={NOBODY}"),
            &format!("--regid={NOBODY}"),
            "--clear-groups",
        ]);
    }
    command.arg("--pdeathsig=KILL").arg(program);
    Ok(command)
}

fn is_root() -> Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?) == 0)
}
