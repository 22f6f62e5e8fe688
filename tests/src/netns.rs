//! A network namespace of its own for some processes, joined to this one by one link that can be cut: packets vanish then
//! as they do when a cable is pulled, without a word to anybody.

use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Network, Program};
use tokio::process::Command;

/// A namespace. Gone with its owner.
pub struct Namespace {
    name: String,
    link: String,
    address: Ipv4Addr,
    _changing: Network,
}

impl Namespace {
    /// Makes one; `None`, with a word on standard error, where that is not allowed.
    pub async fn new() -> Result<Option<Namespace>> {
        let id = std::process::id();
        // One of 16384 pairs of the range for benchmarks (RFC 2544), by the process.
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (id % 16384) * 4;
        let (here, there) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let namespace = Namespace {
            name: format!("pomerium-{id}"),
            link: format!("pom{id}"),
            address: there,
            _changing: Network::changing().await?,
        };
        let (name, link) = (namespace.name.as_str(), namespace.link.as_str());
        if let Err(error) = ip(&["netns", "add", name]).await {
            let word = format!("SKIPPED: there are no network namespaces here: {error:#}");
            writeln!(std::io::stderr(), "{word}")?;
            return Ok(None);
        }
        let (here, there) = (format!("{here}/30"), format!("{there}/30"));
        ip(&[
            "link", "add", link, "type", "veth", "peer", "name", "outside", "netns", name,
        ])
        .await?;
        ip(&["address", "add", &here, "dev", link]).await?;
        ip(&["link", "set", link, "up"]).await?;
        for inside in [
            &["link", "set", "lo", "up"][..],
            &["address", "add", &there, "dev", "outside"],
            &["link", "set", "outside", "up"],
        ] {
            ip(&[&["-n", name], inside].concat()).await?;
        }
        Ok(Some(namespace))
    }

    /// Where processes in it are reached.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The same command inside.
    pub fn inside(&self, command: &Command) -> Command {
        let command = command.as_std();
        let mut inside = Command::new("ip");
        inside
            .args(["netns", "exec", &self.name])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside.kill_on_drop(true);
        inside
    }

    /// Starts a program inside.
    pub fn start(&self, command: &Command) -> Result<Program> {
        Program::start(self.inside(command))
    }

    /// Cuts the link.
    pub async fn cut(&self) -> Result<()> {
        ip(&["link", "set", &self.link, "down"]).await
    }

    /// Joins it again.
    pub async fn join(&self) -> Result<()> {
        ip(&["link", "set", &self.link, "up"]).await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link by itself: with the namespace it would go at some later time, under the eyes of the next browser.
        for gone in [["link", "del", &self.link], ["netns", "del", &self.name]] {
            let _ = std::process::Command::new("ip").args(gone).output();
        }
    }
}

async fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().await.context("ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), said.trim());
    Ok(())
}
