//! Idle WebSockets: what one costs the proxy. Clients and upstream are other processes.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use pomerium_testing::{Environment, Program, RawClient, Route};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::{process, rivals};

/// Open at a time while connecting.
const AT_ONCE: usize = 64;
/// How many are opened between two signs of life.
const STEP: usize = 500;

/// What the process that holds the sockets is told.
#[derive(Debug, Clone, Args)]
pub struct Holder {
    /// Port on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Host header, and the server name without its port
    #[arg(long)]
    host: String,
    /// How many
    #[arg(long)]
    count: usize,
}

/// Measures and returns the section as Markdown.
pub async fn run(count: usize) -> Result<String> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let environment = Environment::builder()?
        .set("log_level", "info")
        .log_to_file()
        .route(
            Route::new("app", &format!("http://127.0.0.1:{upstream}"))
                .public()
                .set("allow_websockets", true)
                .set("circuit_breaker_thresholds", roomy(count)),
        )
        .start()
        .await?;
    let process = environment.process_id()?;
    // The first ones also pay for what is made once.
    drop(Sockets::open(&environment, "app", 64).await?);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = process::resident(process)?;
    let mut sockets = Sockets::open(&environment, "app", count).await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let after = process::resident(process)?;
    sockets.check().await?;
    #[allow(clippy::cast_precision_loss, reason = "figures are far below 2^52")]
    let each = after.saturating_sub(before) as f64 / count as f64 / 1e3;
    eprintln!("{count} WebSockets: {each:.1} KB each");
    let mut text = String::from("### Idle WebSockets\n\n");
    let _ = writeln!(
        text,
        "- {count} idle WebSockets over TLS: the proxy grows by {each:.1} KB for each; goal under 20 KB\n"
    );
    Ok(text)
}

/// The default limits are 1024 of each, and a tunnel counts as a request as long as it is open.
fn roomy(count: usize) -> serde_json::Value {
    let most = count * 2;
    serde_json::json!({ "max_connections": most, "max_requests": most, "max_pending_requests": most })
}

/// WebSockets held open by another process.
pub struct Sockets {
    program: Program,
    stdin: tokio::process::ChildStdin,
    count: usize,
}

impl Sockets {
    /// Opens `count` of them to a public route.
    pub async fn open(environment: &Environment, route: &str, count: usize) -> Result<Self> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command
            .arg("holder")
            .args(["--port", &environment.port().to_string()])
            .args(["--host", &environment.authority_of(route)])
            .args(["--count", &count.to_string()]);
        let mut program = Program::start(command)?;
        let stdin = program.take_stdin().context("the holder has no input")?;
        for opened in (STEP..=count).step_by(STEP).chain([count]) {
            let line = format!("open {opened}");
            program.output().wait("the sockets", |said| said == line).await?;
        }
        Ok(Self {
            program,
            stdin,
            count,
        })
    }

    /// Sends a byte over each and waits for it to come back.
    pub async fn check(&mut self) -> Result<()> {
        let mark = self.program.output().mark();
        self.stdin.write_all(b"check\n").await?;
        let said = self
            .program
            .output()
            .wait_from(mark, "the echoes", |line| line.starts_with("alive "))
            .await?;
        ensure!(
            said == format!("alive {}", self.count),
            "of {} sockets: {said}",
            self.count
        );
        Ok(())
    }
}

/// Opens the sockets, then checks them whenever it is told to, until its input ends.
pub async fn hold(holder: Holder) -> Result<()> {
    let connects = (0..holder.count).map(|_| connect(&holder));
    let mut sockets: Vec<RawClient> = Vec::with_capacity(holder.count);
    let mut opening = std::pin::pin!(stream::iter(connects).buffer_unordered(AT_ONCE));
    while let Some(socket) = opening.try_next().await? {
        sockets.push(socket);
        if sockets.len().is_multiple_of(STEP) || sockets.len() == holder.count {
            println!("open {}", sockets.len());
        }
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut echoes = Vec::new();
    while lines.next_line().await?.is_some() {
        // What came before stays in the buffer of a client: one more has to be there.
        echoes.push(b'!');
        let mut alive = 0;
        for socket in &mut sockets {
            if socket.send("!").await.is_ok() && socket.wait_for_bytes(&echoes).await.is_ok() {
                alive += 1;
            }
        }
        println!("alive {alive}");
    }
    Ok(())
}

async fn connect(holder: &Holder) -> Result<RawClient> {
    let address = SocketAddr::from(([127, 0, 0, 1], holder.port));
    let name = holder.host.split(':').next().unwrap_or_default();
    let mut client = RawClient::connect_tls_trusting_anyone(address, None, name).await?;
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        holder.host
    );
    client.send(request).await?;
    let reply = client.reply(false).await?;
    ensure!(
        reply.status == 101,
        "the upgrade was answered with {}",
        reply.status
    );
    Ok(client)
}
