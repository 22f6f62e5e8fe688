//! A program that runs beside the test and ends with it.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::{Lines, within};

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    output: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts a command; standard output and error are collected together.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(mut command: Command) -> Result<Program> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = Lines::default();
        let readers = vec![
            output.collect(child.stdout.take().context("no standard output")?),
            output.collect(child.stderr.take().context("no standard error")?),
        ];
        Ok(Program {
            name,
            child,
            output,
            readers,
        })
    }

    /// Starts a command whose output is added to a file, as a service manager would have it; none is collected.
    ///
    /// # Errors
    /// The program cannot be started, or the file cannot be made.
    pub fn start_into_file(mut command: Command, file: &Path) -> Result<Program> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .with_context(|| format!("cannot make {}", file.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Program {
            name,
            child,
            output: Lines::default(),
            readers: Vec::new(),
        })
    }

    /// What it wrote.
    pub fn output(&self) -> &Lines {
        &self.output
    }

    /// Its standard input, once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("cannot kill {}", self.name))
    }

    /// Sends a signal by name (`TERM`, `HUP`).
    ///
    /// # Errors
    /// The program has ended, or the system refuses.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.id().context("the program has ended")?;
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(id.to_string())
            .status()
            .await?;
        anyhow::ensure!(status.success(), "kill -{signal} failed");
        Ok(())
    }

    /// Waits until it ends by itself and its last words are in [`Program::output`].
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = within(&format!("the end of {}", self.name), self.child.wait()).await??;
        for reader in self.readers.drain(..) {
            within(&format!("the last words of {}", self.name), reader).await??;
        }
        Ok(status)
    }
}
