//! Load from h2load: 32 keep-alive clients, as fast as answers come.

use anyhow::{Context, Result, bail};
use pomerium_testing::tools;
use tokio::process::Command;

/// Connections at a time.
pub const CLIENTS: u32 = 32;

/// HTTP version of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2, ten requests at a time on a connection.
    Http2,
}

impl Protocol {
    /// Both, in the order of the table.
    pub const ALL: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
}

/// Where the load goes and what it carries.
#[derive(Debug, Clone)]
pub struct Target {
    /// URL with the host that the proxy routes on.
    pub url: String,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// `Cookie` header; the same for each proxy, so that all read the same bytes.
    pub cookie: String,
}

/// Sends `requests` requests. Every answer must be a 2xx.
pub async fn run(target: &Target, protocol: Protocol, requests: u32) -> Result<()> {
    let mut command = Command::new(tools::find("h2load")?);
    match protocol {
        Protocol::Http1 => command.arg("--h1"),
        Protocol::Http2 => command.args(["-m", "10"]),
    };
    command
        .args(["-t", "1", "-c", &CLIENTS.to_string(), "-n", &requests.to_string()])
        .arg(format!("--connect-to=127.0.0.1:{}", target.port))
        .args([
            "-H",
            "accept: text/html",
            "-H",
            &format!("cookie: {}", target.cookie),
        ])
        .arg(&target.url);
    let output = command.output().await.context("h2load does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let good = text
        .lines()
        .find_map(|line| line.strip_prefix("status codes: "))
        .and_then(|line| line.split(' ').next())
        .and_then(|count| count.parse::<u32>().ok());
    if good != Some(requests) {
        bail!("h2load to {}: not every answer was a 2xx:\n{text}", target.url);
    }
    Ok(())
}
