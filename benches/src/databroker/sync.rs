//! Processes that follow the databroker over gRPC: the first sync of everything, what a session weighs, how soon a
//! change is everywhere.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pomerium_api::clock::SystemClock;
use pomerium_api::databroker::Databroker;
use pomerium_api::synced::SyncedRecords;
use pomerium_testing::{Environment, Port, lease};
use pomerium_tests::apart;
use tokio::task::JoinHandle;

use super::sample::{Sample, client};
use super::store::Filled;
use super::verdict;
use crate::process;

/// Caches that follow at a time.
const CACHES: usize = 100;
/// Changes that are followed through all of them.
const CHANGES: usize = 300;
/// Sessions there are meanwhile.
const SESSIONS: usize = 1_000;
/// Of them in one call.
const PART: usize = 100;
/// Between two changes: each is measured by itself.
const PAUSE: Duration = Duration::from_millis(40);
/// A first sync that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(180);

/// A proxy that starts beside a databroker with many records: until it is ready, and what it weighs then.
pub async fn first(filled: &Filled, records: usize) -> Result<String> {
    let port = lease()?;
    let _empty = databroker(&port).await?;
    let (bare, _) = proxy(&port).await?;
    let before = settled(&bare).await?;
    drop(bare);
    let (full, time) = proxy(&filled.port).await?;
    let after = settled(&full).await?;
    #[allow(clippy::cast_precision_loss, reason = "memory in bytes is far below 2^52")]
    let each = after.saturating_sub(before) as f64 / records as f64;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "- first sync of {records} records, from the start of a proxy to ready: {time:.1} s; goal under 20 s: {}",
        verdict(time < 20.0)
    );
    let _ = writeln!(
        text,
        "- memory of a session in a proxy: {each:.0} bytes; goal under 1 KB: {}",
        verdict(each < 1000.0)
    );
    Ok(text)
}

async fn databroker(port: &Port) -> Result<Environment> {
    apart::databroker(port)?
        .set("authenticate_service_url", "https://auth.example.com")
        .set("log_level", "info")
        .start()
        .await
}

/// A proxy, and the seconds until it was ready.
async fn proxy(port: &Port) -> Result<(Environment, f64)> {
    let builder = apart::remote(Environment::builder()?, "proxy", &[apart::url(port)])
        .set("authenticate_service_url", "https://auth.example.com")
        .set("log_level", "info");
    let begin = Instant::now();
    let proxy = builder.start_unready().await?;
    let client = proxy.client()?;
    loop {
        let ready = client.get(&proxy.health_url("/readyz")).await;
        if ready.is_ok_and(|reply| reply.status == 200) {
            return Ok((proxy, begin.elapsed().as_secs_f64()));
        }
        ensure!(
            begin.elapsed() < LONGEST,
            "the proxy is not ready:\n{}",
            proxy.log().tail(20)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Resident memory once what starting needed is given back.
async fn settled(environment: &Environment) -> Result<u64> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    process::resident(environment.process_id()?)
}

/// A change, from the call that makes it to the caches that show it.
pub async fn caches(sample: &Sample) -> Result<String> {
    let port = lease()?;
    let _databroker = databroker(&port).await?;
    let (proxy, _) = proxy(&port).await?;
    let broker = client(proxy.folder())?;
    let sessions: Vec<_> = (0..SESSIONS).map(|number| sample.session(number)).collect();
    for sessions in sessions.chunks(PART) {
        broker.put(sessions.to_vec()).await?;
    }
    let caches = (0..CACHES)
        .map(|_| Cache::follow(&proxy))
        .collect::<Result<Vec<_>>>()?;
    for cache in &caches {
        cache.records.wait_ready().await;
    }
    let mut made = Vec::with_capacity(CHANGES);
    for number in 0..CHANGES {
        let begin = Instant::now();
        let reply = broker.put(vec![sample.session(number % SESSIONS)]).await?;
        made.push((reply.records.first().context("no record")?.version, begin));
        tokio::time::sleep(PAUSE).await;
    }
    let last = made.last().map_or(0, |(version, _)| *version);
    let mut times = Vec::with_capacity(CACHES * CHANGES);
    for cache in caches {
        times.extend(cache.times(&made, last).await?);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
    let (median, most) = (at(50), at(99));
    Ok(format!(
        "- a change visible in {CACHES} caches over gRPC, from the call that makes it: median {median:.1} ms, 99th \
         percentile {most:.1} ms; goal under 50 ms: {}\n",
        verdict(most < 50.0)
    ))
}

/// A cache with a connection of its own, and when it saw what.
struct Cache {
    records: Arc<SyncedRecords>,
    seen: JoinHandle<Vec<(u64, Instant)>>,
    stop: tokio::sync::watch::Sender<u64>,
    following: JoinHandle<()>,
}

impl Cache {
    fn follow(proxy: &Environment) -> Result<Self> {
        let broker = Arc::new(client(proxy.folder())?);
        let records =
            SyncedRecords::of_another_process(broker, Arc::new(SystemClock), Duration::from_secs(300));
        let following = tokio::spawn(Arc::clone(&records).run(std::future::pending()));
        let stop = tokio::sync::watch::Sender::new(u64::MAX);
        let seen = tokio::spawn(watch(Arc::clone(&records), stop.subscribe()));
        Ok(Self {
            records,
            seen,
            stop,
            following,
        })
    }

    /// Milliseconds of each change, once it has seen the `last`.
    async fn times(self, made: &[(u64, Instant)], last: u64) -> Result<Vec<f64>> {
        self.stop.send_replace(last);
        let seen = self.seen.await?;
        self.following.abort();
        made.iter()
            .map(|(version, begin)| {
                let first = seen.iter().find(|(at, _)| at >= version);
                let (_, moment) = first.context("a change was not seen")?;
                Ok(moment.duration_since(*begin).as_secs_f64() * 1e3)
            })
            .collect()
    }
}

/// Notes each position, until the one that is told last.
async fn watch(
    records: Arc<SyncedRecords>,
    mut last: tokio::sync::watch::Receiver<u64>,
) -> Vec<(u64, Instant)> {
    let mut changes = records.changes();
    let mut seen = Vec::new();
    loop {
        let at = records.position().map_or(0, |at| at.latest_record_version);
        if seen.last().is_none_or(|(known, _)| *known < at) {
            seen.push((at, Instant::now()));
        }
        if at >= *last.borrow_and_update() {
            return seen;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return seen },
            told = last.changed() => if told.is_err() { return seen },
        }
    }
}
