//! The proxies that are compared: each one a process that forwards to the same upstream over TLS.

mod envoy;
mod haproxy;
mod nginx;
mod pomerium;

use std::path::Path;

use anyhow::{Context, Result};
use pomerium_testing::{Authority, Port, Program, RawClient, lease, within};
use tokio::process::Command;

pub use envoy::{plain as envoy, with_authorizer as envoy_with_authorizer};
pub use haproxy::start as haproxy;
pub use nginx::start as nginx;
pub use pomerium::{cookie_of, environment, start as pomerium};

/// A running proxy.
pub struct Rival {
    /// Name of the row.
    pub name: &'static str,
    /// Root of its processes.
    pub process: u32,
    /// Port of the TLS listener.
    pub port: u16,
    /// Keeps it running.
    _running: Box<dyn std::any::Any + Send>,
    /// Its processes are a group of their own: workers outlive a master that is killed.
    group: bool,
}

impl Drop for Rival {
    fn drop(&mut self) {
        if self.group {
            let group = format!("-{}", self.process);
            // Nothing to do about a failure here: then the processes have ended already.
            let _ = std::process::Command::new("kill")
                .args(["-KILL", "--", &group])
                .status();
        }
    }
}

/// What every rival needs: a place, a certificate, an upstream.
pub struct Ground {
    /// Folder for configuration and logs.
    pub folder: tempfile::TempDir,
    /// Port of the upstream.
    pub upstream: u16,
    authority: Authority,
}

impl Ground {
    /// Writes the certificate that the rivals share.
    pub fn new(upstream: u16) -> Result<Ground> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new()?;
        let leaf = authority.issue(&["*.example.com"])?;
        std::fs::write(folder.path().join("server.pem"), &leaf.certificate_pem)?;
        std::fs::write(folder.path().join("server.key"), &leaf.key_pem)?;
        std::fs::write(
            folder.path().join("both.pem"),
            format!("{}{}", leaf.certificate_pem, leaf.key_pem),
        )?;
        Ok(Ground {
            folder,
            upstream,
            authority,
        })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a proxy and waits until it forwards.
    async fn run(&self, name: &'static str, port: Port, mut command: Command) -> Result<Rival> {
        let log = self.path().join(format!("{}.txt", name.replace([' ', '+'], "-")));
        command.process_group(0);
        let mut program = Program::start_into_file(command, &log)?;
        let process = program.id().with_context(|| format!("{name} ended at once"))?;
        let address = ([127, 0, 0, 1], port.number()).into();
        let ready = within(&format!("{name} to listen"), async {
            loop {
                if program.ended().is_some() {
                    return false;
                }
                let server = "app.example.com";
                if RawClient::connect_tls(address, None, &self.authority, server, &["http/1.1"])
                    .await
                    .is_ok()
                {
                    return true;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await?;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        anyhow::ensure!(ready, "{name} ended:\n{said}");
        let number = port.number();
        Ok(Rival {
            name,
            process,
            port: number,
            _running: Box::new((program, port)),
            group: true,
        })
    }
}

/// Starts this program in another role and reads the port that it prints.
pub async fn helper(role: &str) -> Result<(Program, u16)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role);
    let program = Program::start(command)?;
    let port = program
        .output()
        .wait("a port", |line| line.parse::<u16>().is_ok())
        .await?;
    Ok((program, port.parse()?))
}

fn port() -> Result<Port> {
    lease()
}
