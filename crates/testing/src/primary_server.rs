//! A name server that takes signed updates: Debian's `knotd` with the zone `example.com`.

use std::net::SocketAddr;

use anyhow::Result;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Port, Program, lease, tools};

/// A running primary server of `example.com`. Ends when dropped.
#[derive(Debug)]
pub struct PrimaryServer {
    program: Program,
    port: Port,
    _folder: TempDir,
}

impl PrimaryServer {
    /// The name of its key.
    pub const KEY_NAME: &str = "acme-update";
    /// The key, base64.
    pub const KEY: &str = "dGVzdHMgb25seTogYSBrZXkgZm9yIHVwZGF0ZXMgISE=";

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// The program is missing or does not start.
    pub async fn start() -> Result<PrimaryServer> {
        let folder = tempfile::tempdir()?;
        let port = lease()?;
        let root = folder.path().display().to_string();
        let zone = "$ORIGIN example.com.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n";
        std::fs::write(folder.path().join("example.com.zone"), zone)?;
        let config = format!(
            "server:\n    rundir: \"{root}\"\n    listen: 127.0.0.1@{port}\n\
             key:\n  - id: {name}\n    algorithm: hmac-sha256\n    secret: {key}\n\
             acl:\n  - id: updates\n    key: {name}\n    action: update\n\
             database:\n    storage: \"{root}\"\n\
             zone:\n  - domain: example.com\n    storage: \"{root}\"\n    file: example.com.zone\n    acl: updates\n\
             log:\n  - target: stderr\n    any: info\n",
            port = port.number(),
            name = Self::KEY_NAME,
            key = Self::KEY,
        );
        let file = folder.path().join("knot.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(tools::find("knotd")?);
        command.arg("-c").arg(&file);
        let program = Program::start(command)?;
        program
            .output()
            .wait("its zone", |line| line.contains("server started"))
            .await?;
        program
            .output()
            .wait("its zone", |line| {
                line.contains("example.com") && line.contains("loaded")
            })
            .await?;
        Ok(PrimaryServer {
            program,
            port,
            _folder: folder,
        })
    }

    /// Where it listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// What it wrote.
    pub fn output(&self) -> &crate::Lines {
        self.program.output()
    }
}
