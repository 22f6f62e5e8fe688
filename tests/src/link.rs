//! A way from a port of this machine to a UNIX socket, which can be cut.

use std::path::{Path, PathBuf};

use anyhow::Result;
use pomerium_testing::{Port, lease};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// A way that stands until it is cut.
pub struct Link {
    port: Port,
    socket: PathBuf,
    running: Option<JoinHandle<()>>,
}

impl Link {
    /// To whatever listens on `socket`.
    pub async fn to(socket: &Path) -> Result<Link> {
        let mut link = Link {
            port: lease()?,
            socket: socket.to_owned(),
            running: None,
        };
        link.join().await?;
        Ok(link)
    }

    /// Where it begins, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Ends every connection; new ones are refused.
    pub async fn cut(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            // It was told to end: how it did is of no interest.
            let _ = running.await;
        }
    }

    /// Makes it stand again.
    pub async fn join(&mut self) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port())).await?;
        self.running = Some(tokio::spawn(pass(listener, self.socket.clone())));
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

async fn pass(listener: TcpListener, socket: PathBuf) {
    // Its connections end with it.
    let mut open = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        open.spawn(join(client, socket.clone()));
    }
}

async fn join(mut client: TcpStream, socket: PathBuf) {
    if let Ok(mut server) = UnixStream::connect(socket).await {
        // However it ends, it has ended.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
