//! Reloads under load: no request fails, no WebSocket closes, memory stays.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pomerium_testing::{Environment, RawClient, Route};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::load::{self, Protocol, Target};
use crate::sockets::Sockets;
use crate::statistics::median;
use crate::{process, rivals};

/// WebSockets that are held open meanwhile.
const SOCKETS: usize = 100;
/// Requests of one run of the load; it is repeated until the reloads are through.
const REQUESTS: u32 = 5_000;
/// How often the memory is looked at. By the first time caches and pools should have their size.
const QUARTERS: usize = 4;

/// Measures and returns the section as Markdown.
pub async fn run(reloads: usize) -> Result<String> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let to = format!("http://127.0.0.1:{upstream}");
    let mut environment = Environment::builder()?
        .set("log_level", "info")
        .log_to_file()
        .route(Route::new("app", &to).public().set("allow_websockets", true))
        .start()
        .await?;
    let process = environment.process_id()?;
    let mut sockets = Sockets::open(&environment, "app", SOCKETS).await?;
    let load = Load::start(&environment);
    let (mut times, mut resident) = (Vec::new(), Vec::new());
    for number in 1..=reloads {
        times.push(reload(&mut environment, &to, number).await?);
        if number % (reloads / QUARTERS).max(1) == 0 {
            resident.push(process::resident(process)?);
        }
    }
    let requests = load
        .stop()
        .await
        .context("a request failed while the configuration changed")?;
    sockets
        .check()
        .await
        .context("a WebSocket closed while the configuration changed")?;
    let mut text = String::from("### Reloads under load\n\n");
    #[allow(clippy::cast_precision_loss, reason = "memory in bytes is far below 2^52")]
    let resident: Vec<_> = resident
        .iter()
        .map(|bytes| format!("{:.1}", *bytes as f64 / 1e6))
        .collect();
    let _ = writeln!(
        text,
        "- {reloads} reloads during {requests} requests and {SOCKETS} open WebSockets: none failed, none closed; resident \
         after each quarter of them {} MB\n\
         - a changed file in effect after {:.0} ms, under this load\n",
        resident.join(", "),
        median(times)
    );
    eprintln!("{text}");
    Ok(text)
}

/// Writes a configuration with another second route and waits until it answers. Milliseconds.
async fn reload(environment: &mut Environment, to: &str, number: usize) -> Result<f64> {
    let host = format!("r{number}.{}", environment.authority_of("app"));
    let route =
        json!({ "from": format!("https://{host}"), "to": to, "allow_public_unauthenticated_access": true });
    let mut client = environment.raw("app").await?;
    let begin = Instant::now();
    environment.rewrite_config(|config| {
        if let Some(routes) = config.get_mut("routes").and_then(|routes| routes.as_array_mut()) {
            routes.truncate(1);
            routes.push(route);
        }
    })?;
    while ask(&mut client, &host).await? != 200 {
        ensure!(
            begin.elapsed() < Duration::from_secs(30),
            "reload {number} took no effect"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

async fn ask(client: &mut RawClient, host: &str) -> Result<u16> {
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"
        ))
        .await?;
    Ok(client.reply(false).await?.status)
}

/// Requests over both protocols until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<u64>>,
}

impl Load {
    fn start(environment: &Environment) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let target = Target {
            url: environment.url("app", "/"),
            port: environment.port(),
            cookie: "a=b".into(),
        };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                for protocol in Protocol::ALL {
                    load::run(&target, protocol, REQUESTS).await?;
                    sent += u64::from(REQUESTS);
                }
            }
            Ok(sent)
        });
        Self { stop, task }
    }

    async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.task.await {
            Ok(sent) => sent,
            Err(error) => bail!("the load broke off: {error}"),
        }
    }
}
