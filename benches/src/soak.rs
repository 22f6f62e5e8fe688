//! Mixed load for as long as is wanted: requests of every kind, WebSockets, bodies, sign-ins, reloads.
//! Nothing may fail, and the memory of the program may not grow once everything has been seen.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pomerium_testing::Environment;
use serde_json::json;

use crate::load::{self, Protocol, Target};
use crate::rivals::{self, cookie_of, environment};
use crate::sockets::Sockets;
use crate::statistics::median;
use crate::{bodies, process};

/// WebSockets that are held open over the whole time.
const SOCKETS: usize = 200;
/// Requests of one kind in a round.
const REQUESTS: u32 = 4_000;
/// A body now and then.
const BODY: u64 = 64 << 20;
/// How long a session is used at least before it ends with a sign-out: who signs in more often than once in 15 s is
/// slowed down.
const SESSION: Duration = Duration::from_secs(20);
/// How much more memory the last quarter may use than the second: noise of the allocator.
const GROWTH: f64 = 1.05;
/// The same in bytes, for short runs with little memory.
const GROWTH_BYTES: f64 = 2e6;

/// Runs for `minutes` and fails at the first request that fails, or when memory grew.
pub async fn run(minutes: u64) -> Result<()> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let mut environment = soaked(upstream).await?;
    let process = environment.process_id()?;
    let mut sockets = Sockets::open(&environment, "public", SOCKETS).await?;
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let mut memory = Vec::new();
    let mut rounds = 0_u32;
    let mut session = Session::begin(&environment).await?;
    while Instant::now() < end {
        round(&mut environment, rounds, &mut session)
            .await
            .with_context(|| format!("round {rounds}"))?;
        sockets.check().await?;
        rotate_log(&environment)?;
        rounds += 1;
        #[allow(clippy::cast_precision_loss, reason = "memory in bytes is far below 2^52")]
        let (own, resident) = (process::own(process)? as f64, process::resident(process)? as f64);
        memory.push(own);
        if rounds.is_multiple_of(10) {
            println!(
                "round {rounds}: {:.1} MB of its own, {:.1} MB resident",
                own / 1e6,
                resident / 1e6
            );
        }
    }
    ensure!(memory.len() >= 8, "too short to tell anything: {rounds} rounds");
    let quarter = memory.len() / 4;
    let second = median(memory[quarter..2 * quarter].to_vec());
    let last = median(memory[3 * quarter..].to_vec());
    println!(
        "{rounds} rounds: {:.1} MB in the second quarter, {:.1} MB in the last",
        second / 1e6,
        last / 1e6
    );
    ensure!(last < (second * GROWTH).max(second + GROWTH_BYTES), "memory grew");
    Ok(())
}

async fn soaked(upstream: u16) -> Result<Environment> {
    environment(upstream)?
        .route(
            pomerium_testing::Route::new("public", &format!("http://127.0.0.1:{upstream}"))
                .public()
                .set("allow_websockets", true),
        )
        .start()
        .await
}

/// Somebody is signed in.
struct Session {
    cookie: String,
    since: Instant,
}

impl Session {
    async fn begin(environment: &Environment) -> Result<Self> {
        Ok(Self {
            cookie: cookie_of(environment).await?,
            since: Instant::now(),
        })
    }
}

/// A bit of everything.
async fn round(environment: &mut Environment, number: u32, session: &mut Session) -> Result<()> {
    let target = |name: &str, path: &str| Target {
        url: environment.url(name, path),
        port: environment.port(),
        cookie: session.cookie.clone(),
    };
    for protocol in Protocol::ALL {
        load::run(&target("app", "/"), protocol, REQUESTS).await?;
        load::run(&target("public", "/"), protocol, REQUESTS / 4).await?;
        bodies::download(&target("app", &format!("/bytes/{BODY}")), protocol, BODY).await?;
    }
    refused(environment).await?;
    if session.since.elapsed() >= SESSION {
        sign_out(environment, &session.cookie).await?;
        *session = Session::begin(environment).await?;
    }
    environment.rewrite_config(|config| {
        config["routes"][1]["description"] = json!(format!("version {number}"));
    })
}

/// As a rotation by copying does: a log of hours would fill the disk.
fn rotate_log(environment: &Environment) -> Result<()> {
    let log = OpenOptions::new()
        .write(true)
        .open(environment.folder().join("log.txt"))?;
    Ok(log.set_len(0)?)
}

/// What gets no further than the door.
async fn refused(environment: &Environment) -> Result<()> {
    for host in ["app", "nowhere"] {
        let mut client = environment.raw("app").await?;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
            environment.authority_of(host)
        );
        client.send(request).await?;
        let status = client.reply(false).await?.status;
        ensure!((300..500).contains(&status), "{host}: {status}");
    }
    Ok(())
}

async fn sign_out(environment: &Environment, cookie: &str) -> Result<()> {
    let client = environment.client()?;
    let url = environment.url("app", "/.pomerium/sign_out");
    let value = cookie.split_once('=').map_or("", |(_, value)| value);
    client.set_cookie(&url, "_pomerium", value)?;
    let page = client.follow(&url).await?;
    // Whom the sign-in service does not know, because only the cookie of the application came along, it does not ask.
    let left = match page.text().contains("<form") {
        true => client.submit_form(&page, "sign_out").await?,
        false => page,
    };
    ensure!(left.status.as_u16() < 400, "sign-out: {}", left.status);
    Ok(())
}
