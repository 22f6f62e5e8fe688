//! haproxy, plain proxying, log to its standard output, which is a file.

use anyhow::Result;
use pomerium_testing::tools;
use tokio::process::Command;

use super::{Ground, Rival, port};

/// Starts it.
pub async fn start(ground: &Ground) -> Result<Rival> {
    let port = port()?;
    let config = format!(
        "global\n\
         \x20 nbthread 2\n\
         \x20 log stdout format raw local0\n\
         defaults\n\
         \x20 mode http\n\
         \x20 log global\n\
         \x20 option httplog\n\
         \x20 option forwardfor\n\
         \x20 http-reuse always\n\
         \x20 timeout connect 5s\n\
         \x20 timeout client 60s\n\
         \x20 timeout server 60s\n\
         frontend tls\n\
         \x20 bind 127.0.0.1:{port} ssl crt {shared}/both.pem alpn h2,http/1.1\n\
         \x20 http-request set-header X-Forwarded-Proto https\n\
         \x20 default_backend app\n\
         backend app\n\
         \x20 server one 127.0.0.1:{upstream}\n",
        shared = ground.path().display(),
        upstream = ground.upstream,
        port = port.number(),
    );
    let file = ground.path().join("haproxy.cfg");
    std::fs::write(&file, config)?;
    let mut command = Command::new(tools::find("haproxy")?);
    command.arg("-db").arg("-f").arg(file);
    ground.run("haproxy", port, command).await
}
