//! gRPC's own server and client (Python packages `grpcio`, `grpcio-health-checking`), for the tests.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use pomerium_testing::{Environment, Lines, Program, tools};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// A server with calls of all four kinds and gRPC's health service.
pub(crate) struct Grpc {
    program: Program,
    commands: tokio::process::ChildStdin,
    pub(crate) address: SocketAddr,
}

impl Grpc {
    pub(crate) async fn start(certificate: Option<(&Path, &Path)>) -> Result<Grpc> {
        let mut command = tools::python("grpc_server.py")?;
        if let Some((chain, key)) = certificate {
            command.arg(chain).arg(key);
        }
        let mut program = Program::start(command)?;
        let line = program
            .output()
            .wait_json(0, "a port", |line| line["port"].is_number())
            .await?;
        let port = u16::try_from(line["port"].as_u64().context("port")?)?;
        Ok(Grpc {
            commands: program.take_stdin().context("stdin")?,
            program,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }

    /// What it wrote.
    pub(crate) fn output(&self) -> &Lines {
        self.program.output()
    }

    /// Sets what the health service says of `service`.
    pub(crate) async fn set(&mut self, state: &str, service: &str) -> Result<()> {
        let mark = self.output().mark();
        self.commands
            .write_all(format!("{state} {service}\n").as_bytes())
            .await?;
        self.output()
            .wait_json(mark, "an answer", |line| line["ok"] == state)
            .await?;
        Ok(())
    }
}

/// Makes calls to the route `name`, one after the other: `method|kind|input|deadline in seconds`.
pub(crate) async fn calls(env: &Environment, name: &str, calls: &[&str]) -> Result<Vec<Value>> {
    let roots = env.folder().join("roots.pem");
    std::fs::write(&roots, env.authority().pem())?;
    let mut command = tools::python("grpc_client.py")?;
    command
        .arg(env.address().to_string())
        .arg(env.authority_of(name))
        .arg(roots)
        .args(calls);
    let program = Program::start(command)?;
    let mut results = Vec::new();
    let mut mark = 0;
    for call in calls {
        let line = program
            .output()
            .wait_json(mark, call, |line| line["code"].is_string())
            .await?;
        results.push(line);
        let lines = program.output().all();
        let done = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains("\"code\""));
        mark = done.map(|(at, _)| at + 1).take(results.len()).last().unwrap_or(0);
    }
    Ok(results)
}
