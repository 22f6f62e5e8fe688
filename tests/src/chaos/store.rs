//! A process that writes to a file store until it is killed, over and over on the same store.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use pomerium_api::clock::SystemClock;
use pomerium_api::databroker::{Databroker, Versions};
use pomerium_databroker::{FileStore, Server};

use super::{KIND, Random, no_gaps, record};
use crate::records::at_rest;

/// Writers at a time in the process.
const WRITERS: u64 = 8;
/// Longest life of a process after its first write, in milliseconds.
const LIFE: u64 = 40;
/// The process must have written by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// The life of the process `round`: writes, and says on standard output what was acknowledged.
///
/// # Errors
/// The store cannot be opened or written.
pub async fn write_until_killed(folder: &Path, round: u64) -> Result<()> {
    let server = Server::new(open(folder)?, Arc::new(SystemClock));
    let writers = (0..WRITERS).map(|writer| {
        let server = &server;
        async move {
            let mut random = Random::new(round * 100 + writer + 1);
            for number in 0_u64.. {
                let id = format!("{round}.{writer}.{number}");
                let size = usize::try_from(random.below(1_500))?;
                let reply = server.put(vec![record(&id, size)]).await?;
                let version = reply.records.first().context("no record")?.version;
                // In one piece: the other writers print as well.
                std::io::stdout().write_all(format!("{id} {version}\n").as_bytes())?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(writers).await.map(drop)
}

/// A store whose writers die.
#[derive(Debug)]
pub struct Mortal {
    folder: PathBuf,
    /// Up to where the change log was read.
    at: Option<Versions>,
    acknowledged: Vec<(String, u64)>,
    /// Processes that were killed.
    pub kills: u64,
    /// The longest time that opening took after a kill.
    pub longest_open: Duration,
}

impl Mortal {
    /// A new store in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            at: None,
            acknowledged: Vec::new(),
            kills: 0,
            longest_open: Duration::ZERO,
        }
    }

    /// Starts `command`, which runs [`write_until_killed`], kills it at some moment, and looks at what it left.
    ///
    /// # Errors
    /// Something acknowledged is missing, or versions have gaps.
    pub async fn round(&mut self, mut command: Command, random: &mut Random) -> Result<()> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its output")?;
        let (lines, told) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let first = told
            .recv_timeout(PATIENCE)
            .context("the process writes nothing")?;
        tokio::time::sleep(random.pause(LIFE)).await;
        child.kill()?;
        child.wait()?;
        ensure!(reader.join().is_ok(), "the reader panicked");
        self.kills += 1;
        let known = self.acknowledged.len();
        for line in std::iter::once(first).chain(told) {
            let (id, version) = line.split_once(' ').context("its output")?;
            self.acknowledged.push((id.to_owned(), version.parse()?));
        }
        let begin = Instant::now();
        let server = Server::new(open(&self.folder)?, Arc::new(SystemClock));
        self.longest_open = self.longest_open.max(begin.elapsed());
        let from = match self.at {
            Some(at) => at,
            None => Versions {
                latest_record_version: 0,
                ..server.versions().await?
            },
        };
        self.at = Some(no_gaps(&server, from).await?);
        check(&server, &self.acknowledged[known..]).await
    }

    /// Looks at everything that was ever acknowledged; returns how much that is.
    ///
    /// # Errors
    /// Something is missing.
    pub async fn whole(&self) -> Result<usize> {
        let server = Server::new(open(&self.folder)?, Arc::new(SystemClock));
        check(&server, &self.acknowledged).await?;
        Ok(self.acknowledged.len())
    }
}

async fn check(server: &Server<FileStore>, acknowledged: &[(String, u64)]) -> Result<()> {
    for (id, version) in acknowledged {
        let found = server
            .get(KIND, id)
            .await
            .with_context(|| format!("{id} of version {version} was acknowledged"))?;
        ensure!(
            found.version == *version,
            "{id} was acknowledged with version {version}, it has {}",
            found.version
        );
    }
    Ok(())
}

fn open(folder: &Path) -> Result<FileStore> {
    Ok(FileStore::open(folder, &[at_rest()?])?)
}
