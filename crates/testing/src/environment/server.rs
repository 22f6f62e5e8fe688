//! The program `pomerium` as a process.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::{Lines, PATIENCE, Program, tools};

/// How often the health listener is asked while the program starts.
const ASK: Duration = Duration::from_millis(5);

/// A running `pomerium --config <folder>/config.yaml`.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
}

impl Server {
    /// Starts the program and waits until `/readyz` of its health listener says 200.
    pub(crate) async fn start(
        folder: &Path,
        health_port: u16,
        variables: &[(String, String)],
    ) -> Result<Server> {
        Self::ready(Program::start(command(folder, variables)?)?, health_port).await
    }

    /// As [`Server::start`], with the log in `<folder>/log.txt` instead of in memory.
    pub(crate) async fn start_into_file(
        folder: &Path,
        health_port: u16,
        variables: &[(String, String)],
    ) -> Result<Server> {
        let program = Program::start_into_file(command(folder, variables)?, &folder.join("log.txt"))?;
        Self::ready(program, health_port).await
    }

    /// Starts the program and waits for nothing.
    pub(crate) fn start_unready(folder: &Path, variables: &[(String, String)]) -> Result<Server> {
        let program = Program::start(command(folder, variables)?)?;
        Ok(Server { program })
    }

    async fn ready(mut program: Program, health_port: u16) -> Result<Server> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = program.ended() {
                bail!(
                    "pomerium ended at once ({status}):\n{}",
                    program.output().tail(40)
                );
            }
            if is_ready(health_port).await {
                return Ok(Server { program });
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "pomerium is not ready after {} s:\n{}",
                    PATIENCE.as_secs(),
                    program.output().tail(40)
                );
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// Runs the program with a configuration that must be refused.
    pub(crate) async fn refused(
        folder: &Path,
        variables: &[(String, String)],
    ) -> Result<(ExitStatus, Lines)> {
        let mut program = Program::start(command(folder, variables)?)?;
        let output = program.output().clone();
        let Ok(status) = program.wait().await else {
            bail!(
                "pomerium was expected to refuse to start, but runs:\n{}",
                output.tail(20)
            );
        };
        Ok((status, output))
    }

    pub(crate) fn output(&self) -> &Lines {
        self.program.output()
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.program.id()
    }

    pub(crate) async fn ended(&mut self) -> Result<()> {
        self.program.wait().await.map(|_| ())
    }

    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.program.kill().await
    }

    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        self.program.signal(signal).await
    }
}

/// The command with nothing of the tester's own environment in it.
pub(super) fn command(folder: &Path, variables: &[(String, String)]) -> Result<Command> {
    let mut command = Command::new(tools::server()?);
    command
        .arg("--config")
        .arg(folder.join("config.yaml"))
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("RUST_BACKTRACE", "1")
        .envs(variables.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == *b"HTTP/1.1 200")
    };
    ask.await.unwrap_or(false)
}
