//! The process that takes over from this one.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};

use super::channel::{self, Body};
use super::passing::{self, Label};
use super::predecessor::VARIABLE;

/// How this process was started. Taken at its start: by the time of an upgrade another file lies at that path.
#[derive(Debug, Clone)]
pub struct Relaunch {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Relaunch {
    /// The path of this program and its arguments.
    pub fn of_this_process() -> anyhow::Result<Self> {
        Ok(Self {
            program: std::env::current_exe().context("the path of this program")?,
            arguments: std::env::args_os().skip(1).collect(),
        })
    }

    /// Starts the program that lies at our path now, with our arguments and environment, and hands it
    /// `sockets`.
    pub fn start(&self, sockets: &[(Label, TcpListener)]) -> anyhow::Result<Successor> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env(VARIABLE, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        let mut successor = Successor {
            child: Some(child),
            channel: None,
        };
        passing::send(&mut ours, sockets).context("the new process does not take the sockets")?;
        ours.set_nonblocking(true)?;
        successor.channel = Some(tokio::net::UnixStream::from_std(ours)?.into_split());
        Ok(successor)
    }
}

/// What the new process wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// The store.
    Store,
    /// Nothing more: it serves.
    Nothing,
}

/// A process that is about to take over. Killed when dropped, unless it was let go.
#[derive(Debug)]
pub struct Successor {
    child: Option<Child>,
    channel: Option<Channel>,
}

/// Both directions of the channel to it.
pub type Channel = (OwnedReadHalf, OwnedWriteHalf);

impl Successor {
    /// Waits for its next wish. Errors when it ends instead.
    pub async fn wish(&mut self) -> anyhow::Result<Wish> {
        let (Some(child), Some((reader, _))) = (&mut self.child, &mut self.channel) else {
            bail!("the new process was let go");
        };
        match channel::read(reader).await {
            Ok(Some(frame)) => match frame.body {
                Some(Body::StoreWanted(_)) => Ok(Wish::Store),
                Some(Body::Ready(_)) => Ok(Wish::Nothing),
                other => bail!("the new process says {other:?}"),
            },
            Ok(None) | Err(_) => {
                let status = child.wait().await?;
                bail!("the new process ended before it served ({status}); its log says why")
            }
        }
    }

    /// Tells it that the store is closed here.
    pub async fn store_is_free(&mut self) -> anyhow::Result<()> {
        self.say(Body::StoreFree(true)).await
    }

    /// Its process id.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Leaves it to itself: from here on it outlives this process. Gives back the channel to its store.
    pub async fn let_go(mut self) -> anyhow::Result<Channel> {
        self.say(Body::Taken(true)).await?;
        if let Some(mut child) = self.child.take() {
            // Whoever starts a process has to take note of its end.
            tokio::spawn(async move { child.wait().await });
        }
        self.channel.take().context("the new process was let go")
    }

    async fn say(&mut self, body: Body) -> anyhow::Result<()> {
        let (_, writer) = self.channel.as_mut().context("the new process was let go")?;
        Ok(channel::write(writer, 0, body).await?)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && let Err(error) = child.start_kill()
        {
            tracing::debug!(%error, "the new process cannot be killed");
        }
    }
}
