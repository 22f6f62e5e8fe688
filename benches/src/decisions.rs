//! Decisions for other proxies: CPU of our process per `Check` of Envoy's external authorization, beside a trivial
//! authorizer in grpc-go (`benches/authorizer`), both driven directly with the same message.
//!
//! Ours does what it does for a request of its own: session, policy of two criteria, assertion, both logs. The other
//! decodes, says OK, encodes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pomerium_testing::ext_authz::{self, CHECK};
use pomerium_testing::{Program, lease, tools};
use prost::Message as _;
use serde_json::json;
use tokio::process::Command;

use crate::statistics::median;
use crate::{Size, process, rivals};

/// Connections of the load: as many as an Envoy of four workers opens.
const CONNECTIONS: u32 = 4;
/// Checks at a time on one connection.
const STREAMS: u32 = 16;

/// One authorizer.
struct Asked {
    name: &'static str,
    process: u32,
    port: u16,
    costs: Vec<f64>,
}

/// Measures and returns the section as Markdown.
pub async fn run(size: Size) -> Result<String> {
    let port = lease()?;
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let environment = rivals::environment(upstream)?
        .set(
            "decision_listener",
            json!({ "address": format!("127.0.0.1:{}", port.number()), "trusted_peers": ["127.0.0.1"] }),
        )
        .start()
        .await?;
    let cookie = rivals::cookie_of(&environment).await?;
    let message = question(&environment.authority_of("app"), &cookie);
    let file = environment.folder().join("check.bin");
    std::fs::write(&file, ext_authz::framed(&message)?)?;
    let mut asked = vec![Asked {
        name: "Pomerium",
        process: environment.process_id()?,
        port: port.number(),
        costs: Vec::new(),
    }];
    let go = authorizer(environment.folder())
        .await
        .inspect_err(|error| eprintln!("note: grpc-go is left out: {error:#}"));
    if let Ok((program, port)) = &go {
        asked.push(Asked {
            name: "trivial authorizer, grpc-go",
            process: program.id().context("the authorizer has ended")?,
            port: *port,
            costs: Vec::new(),
        });
    }
    for one in &asked {
        let answer = ext_authz::check(SocketAddr::from(([127, 0, 0, 1], one.port)), &message).await?;
        let allowed = answer.status.as_ref().is_some_and(|status| status.code == 0);
        ensure!(allowed, "{} does not allow: {answer:?}", one.name);
        load(one.port, &file, size.requests / 10 + CONNECTIONS).await?;
    }
    for run in 0..size.runs {
        for one in &mut asked {
            let before = process::cpu(one.process)?;
            load(one.port, &file, size.requests).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let used = process::cpu(one.process)?.saturating_sub(before);
            let cost = used.as_secs_f64() * 1e6 / f64::from(size.requests);
            eprintln!("run {}: {}: {cost:.1} µs", run + 1, one.name);
            one.costs.push(cost);
        }
    }
    Ok(report(asked))
}

fn report(asked: Vec<Asked>) -> String {
    let mut text = String::from("### Decisions for other proxies\n\n");
    let costs: Vec<_> = asked
        .into_iter()
        .map(|one| (one.name, median(one.costs)))
        .collect();
    for (name, cost) in &costs {
        let _ = writeln!(
            text,
            "- a `Check` over gRPC, CPU of the authorizer: {cost:.1} µs ({name})"
        );
    }
    if let [(_, ours), (_, theirs)] = costs.as_slice() {
        let _ = writeln!(text, "- {:.2} ×, goal at most 0.5 ×", ours / theirs);
    }
    text.push('\n');
    text
}

/// Builds the Go program and starts it. Its dependencies come through Go's own proxy, and are checked by go.sum.
async fn authorizer(folder: &Path) -> Result<(Program, u16)> {
    let program = folder.join("authorizer");
    let built = Command::new(go()?)
        .current_dir(tools::root().join("benches").join("authorizer"))
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .output()
        .await?;
    if !built.status.success() {
        bail!("it does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    let program = Program::start(Command::new(program))?;
    let line = program.output().wait("the port", |_| true).await?;
    Ok((program, line.trim().parse()?))
}

fn go() -> Result<PathBuf> {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    tools::find("go").or_else(|error| if usual.is_file() { Ok(usual) } else { Err(error) })
}

/// What Envoy asks about a page that a browser opens.
fn question(host: &str, cookie: &str) -> Vec<u8> {
    let mut question = ext_authz::question(
        host,
        b"/page?tab=1",
        &[
            (":authority", host),
            (":method", "GET"),
            (":path", "/page?tab=1"),
            (":scheme", "https"),
            (
                "accept",
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            ),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("accept-language", "en-US,en;q=0.9"),
            ("cookie", cookie),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "0f0e0d0c-0b0a-4908-8706-050403020100"),
        ],
    );
    ext_authz::http(&mut question).id = "1234567890123456789".into();
    question.encode_to_vec()
}

/// Sends the same call `calls` times.
async fn load(port: u16, file: &Path, calls: u32) -> Result<()> {
    let output = Command::new(tools::find("h2load")?)
        .args([
            "-t",
            "1",
            "-c",
            &CONNECTIONS.to_string(),
            "-m",
            &STREAMS.to_string(),
        ])
        .args(["-n", &calls.to_string(), "-d"])
        .arg(file)
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg(format!("http://127.0.0.1:{port}{CHECK}"))
        .output()
        .await
        .context("h2load does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let good = format!("status codes: {calls} 2xx");
    ensure!(
        text.contains(&good),
        "h2load: not every answer was a 2xx:\n{text}"
    );
    Ok(())
}
