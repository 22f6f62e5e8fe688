//! `cargo xtask chaos`: the long form of random deaths (`pomerium_tests::chaos` says what is done and looked at). It ends
//! with an error at the first thing that is lost, else with counts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use pomerium_tests::chaos::Random;
use pomerium_tests::chaos::processes::{Installation, Outcome, Over};
use pomerium_tests::chaos::standby::{Takeover, takeover};
use pomerium_tests::chaos::store::{Mortal, write_until_killed};

use crate::report;

/// How much of it.
#[derive(Debug, Clone, Args)]
pub struct Chaos {
    /// How long the databrokers of an installation are killed, half of the time over each store
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How often a process that writes to a file store is killed
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    /// How often the place of a dead leader is taken
    #[arg(long, default_value_t = 20)]
    takeovers: u64,
    /// What the random moments begin with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replace the measured section of this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What the process that is killed is told.
#[derive(Debug, Clone, Args)]
pub struct Writer {
    /// Of the store
    #[arg(long)]
    folder: PathBuf,
    /// Which of the processes it is
    #[arg(long)]
    round: u64,
}

/// The process that is killed.
pub async fn writer(writer: &Writer) -> Result<()> {
    write_until_killed(&writer.folder, writer.round).await
}

/// Runs all of it.
pub async fn run(chaos: &Chaos) -> Result<()> {
    pomerium_testing::install_crypto_provider();
    let mut random = Random::new(chaos.seed);
    let mut text = String::from("### A run\n\n");
    let mut add = |line: String| {
        println!("{line}");
        let _ = writeln!(text, "{line}");
    };
    add(store(chaos.kills, &mut random).await?);
    let half = Duration::from_secs(chaos.minutes * 30);
    for (over, name) in [
        (Over::File, "a databroker over the file store"),
        (Over::Postgres, "two databrokers over one PostgreSQL"),
    ] {
        let Outcome {
            kills,
            writes,
            sign_ins,
            requests,
        } = installation(over, half, &mut random).await.context(name)?;
        add(format!(
            "- {name}, {kills} `kill -9` in {} s: {writes} records and {sign_ins} sign-ins acknowledged, none lost; \
             {requests} authorised requests meanwhile, none refused; versions without gaps",
            half.as_secs()
        ));
    }
    add(standby(chaos.takeovers, &mut random).await?);
    if let Some(file) = &chaos.write {
        report::write(file, &text)?;
    }
    Ok(())
}

async fn store(kills: u64, random: &mut Random) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut mortal = Mortal::new(folder.path());
    for round in 0..kills {
        let command = child(folder.path(), round)?;
        mortal
            .round(command, random)
            .await
            .with_context(|| format!("the file store after kill {}", round + 1))?;
        if (round + 1) % 100 == 0 {
            eprintln!("{} processes killed", round + 1);
        }
    }
    let whole = mortal.whole().await.context("the file store in the end")?;
    Ok(format!(
        "- the file store, {} `kill -9` of the process that writes to it: {whole} records acknowledged, none lost; versions \
         without gaps; opened again within {} ms",
        mortal.kills,
        mortal.longest_open.as_millis()
    ))
}

fn child(folder: &Path, round: u64) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("chaos-writer").arg("--folder").arg(folder);
    command.args(["--round", &round.to_string()]);
    Ok(command)
}

async fn installation(over: Over, time: Duration, random: &mut Random) -> Result<Outcome> {
    let mut installation = Installation::start(over).await?;
    let begin = Instant::now();
    while begin.elapsed() < time {
        installation.round(random).await?;
    }
    installation.end().await
}

async fn standby(takeovers: u64, random: &mut Random) -> Result<String> {
    let mut all: Vec<Takeover> = Vec::new();
    for number in 0..takeovers {
        let one = takeover(random)
            .await
            .with_context(|| format!("takeover {}", number + 1))?;
        all.push(one);
    }
    let acknowledged: usize = all.iter().map(|one| one.acknowledged).sum();
    let lost: usize = all.iter().map(|one| one.lost).sum();
    let most = all.iter().map(|one| one.lost).max().unwrap_or_default();
    let window = all.iter().map(|one| one.window).max().unwrap_or_default();
    Ok(format!(
        "- a standby in place of a leader that is killed while it writes, {takeovers} times: {lost} of {acknowledged} records \
         lost, {most} at once at most, all of them acknowledged within the last {:.1} ms",
        window.as_secs_f64() * 1e3
    ))
}
