//! Sockets that are handed over: by the service manager, and by one process to the next.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Environment, Http3Client, Program, tools, within};
use pomerium_tests::{Stage, scripted, scripted_with};
use tokio::net::TcpListener;

use crate::websocket::{echoes, open_with};

/// A process that our own started and that outlives it; ended with the test.
pub(crate) struct Orphan(String);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill")
            .args(["-KILL", &self.0])
            .status();
    }
}

/// Lets the next process take over and waits until it is the main one.
pub(crate) async fn upgrade(env: &Environment) -> Result<Orphan> {
    let mark = env.log().mark();
    env.signal("USR2").await?;
    let line = env
        .log()
        .wait_from(mark, "the new process", |line| {
            line.contains("the new process serves")
        })
        .await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    let process = line["process"].as_u64().with_context(|| format!("{line}"))?;
    let orphan = Orphan(process.to_string());
    env.log()
        .wait_from(mark, "its word", |line| {
            line.contains("this process is the main one now")
        })
        .await?;
    Ok(orphan)
}

/// Asks again and again, on a connection each, until told to stop; returns how often, or the first failure.
async fn load(env: &Environment, stop: &AtomicBool, asked: &AtomicUsize) -> Result<()> {
    let authority = env.authority_of("open");
    while !stop.load(Ordering::Relaxed) {
        let mut client = env.raw("open").await?;
        client
            .send(format!(
                "GET /load HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
            ))
            .await?;
        let reply = client.reply(false).await?;
        ensure!(reply.status == 200, "{}", reply.status);
        asked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_under_load_fails_no_request_and_loses_no_session() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    let mut socket = open_with(&stage.env, &client).await?;
    echoes(&mut socket, "before").await?;
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let upgrades = async {
        let wait_for_more = async |count: usize| {
            let before = asked.load(Ordering::Relaxed);
            within("more requests", async {
                while asked.load(Ordering::Relaxed) < before + count {
                    tokio::task::yield_now().await;
                }
            })
            .await
        };
        wait_for_more(20).await?;
        let orphan = upgrade(&stage.env).await?;
        wait_for_more(50).await?;
        stop.store(true, Ordering::Relaxed);
        Ok(orphan)
    };
    let load = || load(&stage.env, &stop, &asked);
    let (orphan, ..) = tokio::try_join!(upgrades, load(), load(), load(), load())?;
    // The tunnel lives on in the old process, the session in the new one.
    echoes(&mut socket, "after").await?;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    let again = stage.signed_in().await?;
    assert_eq!(stage.api(&again, "app", "/").await?.status, 200);
    drop(orphan);
    Ok(())
}

#[tokio::test]
async fn a_sign_in_that_began_before_an_upgrade_ends_after_it() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.env.client()?;
    let first = client.get(&stage.env.url("app", "/")).await?;
    let sign_in = first.location().context("a redirect")?;
    let to_provider = client.get(sign_in.as_str()).await?;
    let _orphan = upgrade(&stage.env).await?;
    let reply = client
        .follow(to_provider.location().context("a redirect")?.as_str())
        .await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    Ok(())
}

#[tokio::test]
async fn a_new_process_that_cannot_start_leaves_the_old_one_serving() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    // The file on disk becomes wrong; what runs stays with what it has.
    let mark = stage.env.log().mark();
    stage
        .env
        .rewrite_config(|config| config["routes"][0]["to"] = "gopher://nowhere".into())?;
    let refused = |line: &str| line.contains("the previous configuration stays in force");
    stage
        .env
        .log()
        .wait_from(mark, "the refused reload", refused)
        .await?;
    let mark = stage.env.log().mark();
    stage.env.signal("USR2").await?;
    let failed = |line: &str| line.contains("upgrade: it failed");
    stage
        .env
        .log()
        .wait_from(mark, "the failed upgrade", failed)
        .await?;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    stage.signed_in().await?;
    Ok(())
}

/// Begins an upgrade that fails after the new process has the store: the metrics address is taken for as long as the first
/// of what is returned is there. The second is the place in the log before it.
pub(crate) async fn begin_in_vain<I>(stage: &mut Stage<I>) -> Result<(TcpListener, usize)> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let mark = stage.env.log().mark();
    stage
        .env
        .rewrite_config(|config| config["metrics_address"] = address.into())?;
    let warned = |line: &str| line.contains("at the next start");
    stage.env.log().wait_from(mark, "the reload", warned).await?;
    stage.env.signal("USR2").await?;
    Ok((taken, mark))
}

#[tokio::test]
async fn a_new_process_that_dies_with_the_store_gives_it_back() -> Result<()> {
    let mut stage = scripted().await?;
    let client = stage.signed_in().await?;
    let (_taken, mark) = begin_in_vain(&mut stage).await?;
    let failed = |line: &str| line.contains("upgrade: it failed");
    stage
        .env
        .log()
        .wait_from(mark, "the failed upgrade", failed)
        .await?;
    let asked = |line: &str| line.contains("asking the running process for the store");
    stage
        .env
        .log()
        .wait_from(mark, "the question for the store", asked)
        .await?;
    assert_eq!(stage.api(&client, "app", "/").await?.status, 200);
    // Writes as well as it reads.
    stage.signed_in().await?;
    Ok(())
}

#[tokio::test]
async fn sockets_of_the_service_manager_are_served() -> Result<()> {
    let mut stage: Stage<_> = scripted().await?;
    stage.env.kill().await?;
    let inner = stage.env.command()?;
    let inner = inner.as_std();
    let mut command = tokio::process::Command::new(tools::find("systemd-socket-activate")?);
    command
        .arg(format!("--listen=127.0.0.1:{}", stage.env.port()))
        .arg("--fdname=main");
    for (name, value) in inner.get_envs() {
        if let (Some(name), Some(value)) = (name.to_str(), value.and_then(|value| value.to_str())) {
            command.arg(format!("--setenv={name}={value}"));
        }
    }
    command.arg(inner.get_program()).args(inner.get_args());
    let program = Program::start(command)?;
    program
        .output()
        .wait("the stand-in", |line| line.contains("Listening on"))
        .await?;
    // It starts with the first connection, which waits in the socket meanwhile.
    let reply = stage.env.client()?.get(&stage.env.url("open", "/")).await?;
    assert_eq!(reply.status, 200, "{}", program.output().tail(20));
    Ok(())
}

/// HTTP/3 too, on the UDP socket that came along.
#[tokio::test]
async fn a_udp_socket_of_the_service_manager_is_served() -> Result<()> {
    let mut stage: Stage<_> = scripted_with(|builder| builder.set("codec_type", "http3")).await?;
    stage.env.kill().await?;
    let inner = stage.env.command()?;
    let inner = inner.as_std();
    let mut command = tools::python("activate.py")?;
    command
        .arg(stage.env.port().to_string())
        .arg(inner.get_program())
        .args(inner.get_args())
        .env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let program = Program::start(command)?;
    program
        .output()
        .wait("the start", |line| line.contains("server started"))
        .await?;
    let reply = stage.env.client()?.get(&stage.env.url("open", "/")).await?;
    let told = format!("h3=\":{}\"; ma=86400", stage.env.port());
    assert_eq!(
        reply.header("alt-svc"),
        Some(told.as_str()),
        "{}",
        program.output().tail(20)
    );
    let http3 = Http3Client::connect(stage.env.address(), stage.env.authority(), "open.example.com").await?;
    assert_eq!(http3.get(&stage.env.url("open", "/")).await?.status, 200);
    Ok(())
}

/// Connections over UDP stay with the process that has them; until it is done, people come over TCP.
#[tokio::test]
async fn http3_follows_when_the_old_process_is_done() -> Result<()> {
    let stage: Stage<_> = scripted_with(|builder| builder.set("codec_type", "http3")).await?;
    let (env, url) = (&stage.env, stage.env.url("open", "/"));
    let connect = || Http3Client::connect(env.address(), env.authority(), "open.example.com");
    let before = connect().await?;
    assert_eq!(before.get(&url).await?.status, 200);
    let mark = env.log().mark();
    let _orphan = upgrade(env).await?;
    let reply = env.client()?.get(&url).await?;
    assert_eq!(reply.status, 200);
    drop(before);
    let settled = |line: &str| line.contains("HTTP/3 has its socket");
    env.log().wait_from(mark, "the UDP socket", settled).await?;
    assert!(env.client()?.get(&url).await?.header("alt-svc").is_some());
    assert_eq!(connect().await?.get(&url).await?.status, 200);
    Ok(())
}

/// What the service manager is told, line by line.
struct Manager {
    socket: Arc<UnixDatagram>,
    path: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify").to_string_lossy().into_owned();
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(pomerium_testing::PATIENCE))?;
        Ok(Self {
            socket: Arc::new(socket),
            path,
            _folder: folder,
        })
    }

    /// Waits for a message that holds `wanted`.
    async fn told(&self, wanted: &str) -> Result<String> {
        let (socket, wanted) = (Arc::clone(&self.socket), wanted.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut heard = Vec::new();
            loop {
                let mut message = [0; 4096];
                let length = socket
                    .recv(&mut message)
                    .with_context(|| format!("waited for {wanted}; heard {heard:?}"))?;
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if text.lines().any(|line| line.starts_with(&wanted)) {
                    return Ok(text);
                }
                heard.push(text);
            }
        })
        .await?
    }
}

#[tokio::test]
async fn the_service_manager_is_told_of_start_reload_upgrade_and_stop() -> Result<()> {
    let manager = Manager::start()?;
    let stage = scripted_with(|builder| builder.variable("NOTIFY_SOCKET", &manager.path)).await?;
    manager.told("READY=1").await?;
    stage.env.signal("HUP").await?;
    assert!(manager.told("RELOADING=1").await?.contains("MONOTONIC_USEC="));
    manager.told("READY=1").await?;
    let orphan = upgrade(&stage.env).await?;
    manager.told("RELOADING=1").await?;
    assert_eq!(
        manager.told("MAINPID=").await?.trim(),
        format!("MAINPID={}", orphan.0)
    );
    manager.told("READY=1").await?;
    let stopped = tokio::process::Command::new("kill")
        .args(["-TERM", &orphan.0])
        .status()
        .await?;
    assert!(stopped.success());
    manager.told("STOPPING=1").await?;
    Ok(())
}

#[tokio::test]
async fn the_watchdog_is_fed() -> Result<()> {
    let manager = Manager::start()?;
    let _stage = scripted_with(|builder| {
        builder
            .variable("NOTIFY_SOCKET", &manager.path)
            .variable("WATCHDOG_USEC", "100000")
    })
    .await?;
    manager.told("WATCHDOG=1").await?;
    manager.told("WATCHDOG=1").await?;
    Ok(())
}
