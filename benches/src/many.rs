//! Ten thousand routes: how long the file takes to load, how soon a changed route counts, and what a route
//! weighs. Each has a host, a prefix and a policy of its own; every hundredth matches by a regular expression.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use pomerium_config::settings::Settings;
use pomerium_config::{Loaded, Loader};
use pomerium_proxy::Snapshot;
use pomerium_testing::{Environment, RawClient};

use crate::process;
use crate::statistics::median;

/// Routes of the large configuration.
const MANY: usize = 10_000;

/// Measures and returns the section as Markdown.
pub async fn run(runs: usize) -> Result<String> {
    let [load, build, again, change] = in_process(runs)?;
    let [file, memory] = by_file(runs).await?;
    let mut text = String::from("### Ten thousand routes\n\n");
    let _ = writeln!(
        text,
        "- the file read, checked and compiled: {:.0} ms ({load:.0} + {build:.0}); goal under 1 s",
        load + build
    );
    let _ = writeln!(
        text,
        "- the file read and checked again with one route changed: {again:.0} ms"
    );
    let _ = writeln!(
        text,
        "- one route changed, from parsed to in effect: {change:.2} ms; goal under 10 ms"
    );
    let _ = writeln!(
        text,
        "- one route changed, from the file written to the changed answer: {file:.0} ms; goal under 500 ms"
    );
    let _ = writeln!(
        text,
        "- resident memory of a route: {memory:.0} bytes; goal under 2 KB\n"
    );
    Ok(text)
}

/// Milliseconds: the file to settings, settings to a snapshot, both again after one change.
fn in_process(runs: usize) -> Result<[f64; 4]> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.yaml");
    let top = "authenticate_service_url: https://auth.example.com\nidp_provider: local\n";
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..=runs {
        let loader = Loader::new(Some(&file), &BTreeMap::new()).dry_run();
        std::fs::write(&file, configuration(top, MANY, "one"))?;
        let (settings, load) = timed(|| settings(&loader));
        let settings = settings?;
        let (first, build) = timed(|| Snapshot::build(&settings, None));
        let first = first?;
        std::fs::write(&file, configuration(top, MANY, "two"))?;
        let (changed, again) = timed(|| self::settings(&loader));
        let changed = changed?;
        let (second, change) = timed(|| Snapshot::build(&changed, Some(&first)));
        ensure!(second?.routes.len() == MANY, "routes got lost");
        for (times, time) in times.iter_mut().zip([load, build, again, change]) {
            times.push(time);
        }
    }
    Ok(times.map(median))
}

fn settings(loader: &Loader) -> Result<Settings> {
    let Loaded {
        settings, refusals, ..
    } = loader.load().map_err(|errors| anyhow!("{errors}"))?;
    ensure!(refusals.is_empty(), "{refusals:?}");
    Ok(settings)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds from a change of the file to the changed answer, and bytes of a route.
async fn by_file(runs: usize) -> Result<[f64; 2]> {
    let few = start(10).await?;
    let mut many = start(MANY).await?;
    let (few_memory, many_memory) = (resident(&few).await?, resident(&many).await?);
    let mut times = Vec::new();
    for run in 0..=runs {
        let answer = format!("answer-{run}");
        let text = configuration(&top(&many), MANY, &answer);
        let begin = Instant::now();
        replace(many.folder(), &text)?;
        until(&mut many, &answer).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    eprintln!(
        "resident: {:.1} MB with 10 routes, {:.1} MB with {MANY}, {:.1} MB after {} reloads",
        few_memory / 1e6,
        many_memory / 1e6,
        resident(&many).await? / 1e6,
        runs + 1
    );
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let memory = (many_memory - few_memory) / (MANY - 10) as f64;
    Ok([median(times), memory])
}

async fn start(count: usize) -> Result<Environment> {
    let mut environment = Environment::builder()?
        .set("idp_provider", "local")
        .set("log_level", "info")
        .log_to_file()
        .start()
        .await?;
    environment.kill().await?;
    replace(
        environment.folder(),
        &configuration(&top(&environment), count, "first"),
    )?;
    environment.start_again().await?;
    until(&mut environment, "first").await?;
    Ok(environment)
}

#[allow(clippy::cast_precision_loss, reason = "bytes of memory, far below 2^52")]
async fn resident(environment: &Environment) -> Result<f64> {
    // What loading needed and gave back is gone.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(process::resident(environment.process_id()?)? as f64)
}

fn replace(folder: &Path, text: &str) -> Result<()> {
    let fresh = folder.join("config.fresh");
    std::fs::write(&fresh, text)?;
    Ok(std::fs::rename(fresh, folder.join("config.yaml"))?)
}

/// Asks until the public route gives this answer.
async fn until(environment: &mut Environment, answer: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
        environment.authority_of("public")
    );
    let mut client: RawClient = environment.raw("public").await?;
    loop {
        client.send(&request).await?;
        let reply = client.reply(false).await.context("the public route")?;
        if reply.text().contains(answer) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the changed answer does not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The options of a test environment that are no routes, as YAML.
fn top(environment: &Environment) -> String {
    let mut text = String::new();
    for (key, value) in environment.config().as_object().into_iter().flatten() {
        if key != "routes" {
            let _ = writeln!(text, "{key}: {value}");
        }
    }
    text
}

/// A file as people write it, with the answer of its public route.
fn configuration(top: &str, count: usize, answer: &str) -> String {
    let mut text = format!("{top}routes:\n");
    for index in 0..count - 1 {
        let matcher = match index % 100 {
            50 => format!("regex: ^/app{index}/[a-z0-9]+/edit$"),
            _ => format!("prefix: /app{index}/"),
        };
        let _ = write!(
            text,
            "- from: https://host{index}.example.com\n  name: application-{index}\n  to: http://10.0.{}.{}:8080\n  \
             {matcher}\n  policy:\n  - allow:\n      or:\n      - email:\n          is: user{index}@example.com\n      \
             - domain:\n          is: team{index}.example.com\n",
            index / 250,
            index % 250 + 1,
        );
    }
    let _ = write!(
        text,
        "- from: https://public.example.com\n  response: {{status: 200, body: {answer}}}\n  \
         allow_public_unauthenticated_access: true\n"
    );
    text
}
