//! A load balancer as simple as they come: each connection goes to the next server, and nobody is remembered.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running one; ends with its owner.
pub struct Balancer {
    task: JoinHandle<()>,
}

impl Balancer {
    /// Listens on `port` of this machine for those that listen on `targets`.
    pub async fn start(port: u16, targets: Vec<SocketAddr>) -> Result<Balancer> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let task = tokio::spawn(async move {
            for target in targets.into_iter().cycle() {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(join(client, target));
            }
        });
        Ok(Balancer { task })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn join(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        // However it ends, it has ended.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
