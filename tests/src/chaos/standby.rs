//! A leader that is killed while it writes, and the one that followed it in its place: what is lost is the last of
//! what the leader acknowledged, and how much that is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use pomerium_api::databroker::remote::Remote;
use pomerium_api::databroker::{Databroker, Error};

use super::{KIND, Random, record};
use crate::standby::Pair;

/// Writers at a time.
const WRITERS: usize = 4;
/// The leader dies within so many milliseconds.
const LIFE: u64 = 500;

/// What became of one takeover.
#[derive(Debug, Clone, Copy)]
pub struct Takeover {
    /// Records the leader acknowledged.
    pub acknowledged: usize,
    /// How many of them the other has not.
    pub lost: usize,
    /// How long before its death the leader acknowledged the first of those.
    pub window: Duration,
}

struct Acknowledged {
    id: String,
    version: u64,
    at: Instant,
}

/// One takeover between new processes.
///
/// # Errors
/// Something is lost that was acknowledged before something that is not.
pub async fn takeover(random: &mut Random) -> Result<Takeover> {
    let mut pair = Pair::start().await?;
    let leader = pair.client(0)?;
    leader.put(vec![record("first", 10)]).await?;
    pair.caught_up().await?;
    let life = random.pause(LIFE);
    let victim = pair.nodes[0].process_id()?;
    let writing = join_all((0..WRITERS).map(|writer| write(&leader, writer)));
    let killing = async {
        tokio::time::sleep(life).await;
        let began = Instant::now();
        let killed = tokio::process::Command::new("kill")
            .args(["-KILL", &victim.to_string()])
            .status()
            .await;
        (began, killed)
    };
    let (acknowledged, (death, killed)) = tokio::join!(writing, killing);
    ensure!(killed?.success(), "the leader had ended by itself");
    pair.nodes[0].kill().await?;
    pair.take_over().await?;
    let second = pair.client(1)?;
    let copied = second.versions().await?.latest_record_version;
    let mut all: Vec<_> = acknowledged.into_iter().flatten().collect();
    all.sort_by_key(|one| one.version);
    for one in &all {
        let there = match second.get(KIND, &one.id).await {
            Ok(_) => true,
            Err(Error::NotFound) => false,
            Err(error) => return Err(error).context("the one that took over"),
        };
        ensure!(
            there == (one.version <= copied),
            "{} of version {} is {}, though {copied} versions were copied",
            one.id,
            one.version,
            if there { "there" } else { "lost" }
        );
    }
    let lost: Vec<_> = all.iter().filter(|one| one.version > copied).collect();
    let window = lost
        .first()
        .map_or(Duration::ZERO, |one| death.saturating_duration_since(one.at));
    Ok(Takeover {
        acknowledged: all.len(),
        lost: lost.len(),
        window,
    })
}

async fn write(leader: &Remote, writer: usize) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 0_u64.. {
        let id = format!("{writer}.{number}");
        let Ok(reply) = leader.put(vec![record(&id, 300)]).await else {
            break;
        };
        let version = reply.records.first().map_or(0, |record| record.version);
        let at = Instant::now();
        acknowledged.push(Acknowledged { id, version, at });
    }
    acknowledged
}
