//! Two databrokers with file stores of their own, over TLS that comes from the shared secret: `a` leads, `b` follows.

use std::time::Duration;

use anyhow::{Result, ensure};
use pomerium_api::databroker::remote::Remote;
use pomerium_testing::{Environment, Port, Program, lease, tools, within};
use serde_json::json;
use tokio::process::Command;

use crate::apart;
use crate::tool::{self, Local};

/// Their names.
const NAMES: [&str; 2] = ["a", "b"];

/// The two processes.
pub struct Pair {
    /// The one that leads, and the one that follows.
    pub nodes: [Environment; 2],
    ports: [Port; 2],
}

impl Pair {
    /// Starts them.
    pub async fn start() -> Result<Pair> {
        let ports = [lease()?, lease()?];
        let nodes = [node(&ports, 0).await?, node(&ports, 1).await?];
        Ok(Pair { nodes, ports })
    }

    /// A client of one of them, which may pass calls on.
    pub fn client(&self, node: usize) -> Result<Remote> {
        tool::client(self.ports[node].number())
    }

    /// A client of one of them, which is to answer by itself.
    pub fn local(&self, node: usize) -> Result<Local> {
        tool::local(self.ports[node].number())
    }

    /// Waits until the second has what the first has now.
    pub async fn caught_up(&self) -> Result<()> {
        let goal = self.local(0)?.server_info(()).await?.into_inner();
        let mut follower = self.local(1)?;
        within("the copy", async {
            loop {
                // An error is: not complete yet.
                if let Ok(info) = follower.server_info(()).await
                    && info.get_ref().server_version == goal.server_version
                    && info.get_ref().latest_record_version >= goal.latest_record_version
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// `pomerium databroker promote` on the second, which must not run; what it says, whether it did it.
    pub async fn promote(&self, more: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new(tools::server()?);
        command
            .args(["databroker", "promote", "--config"])
            .arg(self.nodes[1].folder().join("config.yaml"))
            .args(more);
        let mut program = Program::start(command)?;
        let status = program.wait().await?;
        Ok((status.success(), program.output().tail(20)))
    }

    /// Stops the second in an orderly way.
    pub async fn stop_second(&mut self) -> Result<()> {
        self.nodes[1].signal("TERM").await?;
        self.nodes[1].ended().await
    }

    /// Promotes the second, whose leader is dead, and starts it as the one that leads.
    pub async fn take_over(&mut self) -> Result<()> {
        self.stop_second().await?;
        let (done, said) = self.promote(&[]).await?;
        ensure!(done, "it was not promoted: {said}");
        self.led_by(1, "b")?;
        self.nodes[1].start_again().await
    }

    /// Says who leads, in the configuration of one of them.
    pub fn led_by(&mut self, node: usize, name: &str) -> Result<()> {
        self.nodes[node].rewrite_config(|config| config["databroker_cluster_leader_id"] = name.into())
    }
}

async fn node(ports: &[Port; 2], own: usize) -> Result<Environment> {
    let nodes: Vec<_> = NAMES
        .iter()
        .zip(ports)
        .map(|(name, port)| json!({ "id": name, "grpc_address": apart::url(port) }))
        .collect();
    apart::databroker(&ports[own])?
        .set("authenticate_service_url", "https://auth.example.com")
        .set("databroker_cluster_node_id", NAMES[own])
        .set("databroker_cluster_leader_id", NAMES[0])
        .set("databroker_cluster_nodes", nodes)
        .start()
        .await
}
