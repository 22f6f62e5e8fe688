//! The file store, opened and sealed as the program does, in the folder of a program: filled, read, then started on.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use pomerium_api::databroker::Databroker;
use pomerium_api::pb::session::Session;
use pomerium_api::records::RecordMessage;
use pomerium_databroker::{FileStore, Server};
use pomerium_testing::{Environment, Port, lease};
use pomerium_tests::{apart, records};

use super::sample::{Sample, id, mix};
use super::verdict;

/// Records of one put.
const BATCH: usize = 100;
/// Records that are read, one by one, at most.
const GETS: usize = 200_000;
/// Writers at a time, in the second measurement.
const WRITERS: usize = 8;

/// A databroker with its store full of sessions.
pub struct Filled {
    /// The program; it runs after [`Self::lines`].
    pub databroker: Environment,
    /// Where it listens for the others.
    pub port: Port,
    records: usize,
    text: String,
}

impl Filled {
    /// Fills the store, measuring.
    pub async fn new(sample: &Sample, records: usize) -> Result<Self> {
        let port = lease()?;
        let mut databroker = apart::databroker(&port)?
            .set("authenticate_service_url", "https://auth.example.com")
            .set("log_level", "info")
            .start()
            .await?;
        databroker.kill().await?;
        let server = records::open(&databroker.folder().join("data"))?;
        let mut text = String::new();
        let (all, last) = fill(&server, sample, records).await?;
        let _ = writeln!(
            text,
            "- file store, durable puts in batches of {BATCH}, one after another: {all:.0} records/s up to {records}, \
             {last:.0} in the last tenth; goal at least 20 000: {}",
            verdict(all.min(last) >= 20_000.0)
        );
        let many = many_writers(&server, sample, records).await?;
        let _ = writeln!(
            text,
            "- the same by {WRITERS} writers at a time, in place of records that are there: {many:.0} records/s"
        );
        let gets = gets(&server, records).await?;
        let _ = writeln!(
            text,
            "- file store, gets: {gets:.0}/s; goal at least 100 000: {}",
            verdict(gets >= 100_000.0)
        );
        server.close();
        drop(server);
        Ok(Self {
            databroker,
            port,
            records,
            text,
        })
    }

    /// Starts the program on it, and returns everything measured.
    pub async fn lines(&mut self) -> Result<String> {
        let first = self.start().await?;
        let size = size(&self.databroker.folder().join("data/databroker"))?;
        self.databroker.kill().await?;
        let second = self.start().await?;
        let _ = writeln!(
            self.text,
            "- start with {} records, from the process to ready: {first:.2} s, and {second:.2} s after `kill -9`; goal \
             under 3 s: {}; the files have {} MB",
            self.records,
            verdict(first.max(second) < 3.0),
            size / 1_000_000
        );
        Ok(std::mem::take(&mut self.text))
    }

    async fn start(&mut self) -> Result<f64> {
        let begin = Instant::now();
        self.databroker
            .start_again()
            .await
            .context("the databroker over the full store")?;
        Ok(begin.elapsed().as_secs_f64())
    }
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for file in std::fs::read_dir(folder)? {
        size += file?.metadata()?.len();
    }
    Ok(size)
}

/// Records a second: over all, and in the last tenth.
async fn fill(server: &Server<FileStore>, sample: &Sample, records: usize) -> Result<(f64, f64)> {
    let tenth = records - records / 10;
    let (mut spent, mut late) = (0.0, 0.0);
    for first in (0..records).step_by(BATCH) {
        let batch: Vec<_> = (first..records.min(first + BATCH))
            .map(|number| sample.session(number))
            .collect();
        let begin = Instant::now();
        server.put(batch).await?;
        let time = begin.elapsed().as_secs_f64();
        spent += time;
        if first >= tenth {
            late += time;
        }
        if first % (records / 10).max(BATCH) == 0 {
            eprintln!("{first} records after {spent:.1} s");
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a few millions")]
    let rate = |count: usize, time: f64| count as f64 / time;
    Ok((rate(records, spent), rate(records - tenth, late)))
}

async fn many_writers(server: &Server<FileStore>, sample: &Sample, records: usize) -> Result<f64> {
    // A tenth of all, in equal parts.
    let each = (records / (10 * WRITERS)).next_multiple_of(BATCH);
    let begin = Instant::now();
    try_join_all((0..WRITERS).map(|writer| async move {
        for first in (0..each).step_by(BATCH) {
            let number = |at: usize| pick(writer * each + at, records);
            let batch = (first..first + BATCH)
                .map(|at| sample.session(number(at)))
                .collect();
            server.put(batch).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    Ok((WRITERS * each) as f64 / begin.elapsed().as_secs_f64())
}

async fn gets(server: &Server<FileStore>, records: usize) -> Result<f64> {
    let count = GETS.min(records);
    let ids: Vec<String> = (0..count).map(|at| id(pick(at, records))).collect();
    let begin = Instant::now();
    for id in &ids {
        server.get(Session::TYPE, id).await?;
    }
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// One of `records`, anywhere among them.
fn pick(at: usize, records: usize) -> usize {
    usize::try_from(mix(at as u64) % records as u64).unwrap_or_default()
}
