//! An upstream that writes the bytes it is told to, right or wrong.

use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::serve::{Server, accept};
use crate::within;

/// What to do next on a connection.
#[derive(Debug, Clone)]
pub enum Step {
    /// Read until the end of a request head (`\r\n\r\n`).
    ReadHead,
    /// Write these bytes.
    Write(Vec<u8>),
    /// Close in good order.
    Close,
    /// Close with a reset.
    Reset,
    /// Keep the connection open and read on until the other side ends it.
    Hold,
}

impl Step {
    /// [`Step::Write`] of text.
    pub fn write(text: &str) -> Step {
        Step::Write(text.as_bytes().to_vec())
    }
}

/// Follows the same script on each connection and keeps what it received.
#[derive(Debug)]
pub struct RawUpstream {
    server: Server,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    finished: Arc<watch::Sender<usize>>,
}

impl RawUpstream {
    /// Starts one.
    ///
    /// # Errors
    /// No port.
    pub async fn start(script: Vec<Step>) -> Result<RawUpstream> {
        let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let finished = Arc::new(watch::Sender::new(0));
        let (keep, done) = (Arc::clone(&received), Arc::clone(&finished));
        let server = accept("127.0.0.1:0", move |stream| {
            let (script, keep, done) = (script.clone(), Arc::clone(&keep), Arc::clone(&done));
            async move {
                let slot = {
                    let mut all = keep.lock();
                    all.push(Vec::new());
                    all.len() - 1
                };
                // The other side may close at any time; that ends the script.
                let _ = follow(stream, &script, |bytes| {
                    keep.lock()[slot].extend_from_slice(bytes)
                })
                .await;
                done.send_modify(|count| *count += 1);
            }
        })
        .await?;
        Ok(RawUpstream {
            server,
            received,
            finished,
        })
    }

    /// `http://…`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// What came on each connection, so far.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().clone()
    }

    /// Waits until `count` connections have come to the end of the script.
    ///
    /// # Errors
    /// They do not in time.
    pub async fn wait_finished(&self, count: usize) -> Result<()> {
        let mut finished = self.finished.subscribe();
        within(
            &format!("{count} finished connections"),
            finished.wait_for(|now| *now >= count),
        )
        .await??;
        Ok(())
    }
}

async fn follow(mut stream: TcpStream, script: &[Step], mut keep: impl FnMut(&[u8])) -> std::io::Result<()> {
    for step in script {
        match step {
            Step::ReadHead => read_head(&mut stream, &mut keep).await?,
            Step::Write(bytes) => stream.write_all(bytes).await?,
            Step::Close => return stream.shutdown().await,
            Step::Reset => {
                return socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
            }
            Step::Hold => loop {
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer).await? {
                    0 => break,
                    read => keep(&buffer[..read]),
                }
            },
        }
    }
    Ok(())
}

async fn read_head(stream: &mut TcpStream, keep: &mut impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut seen = Vec::new();
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        keep(&buffer[..read]);
        seen.extend_from_slice(&buffer[..read]);
    }
    Ok(())
}
