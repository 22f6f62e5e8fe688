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
    /// Write these bytes again and again until the other side ends the connection; what comes is read.
    Repeat(Vec<u8>),
    /// Keep the connection open and read nothing.
    Ignore,
    /// Wait for [`RawUpstream::go_on`] with this word; what comes meanwhile stays unread.
    Pause(&'static str),
    /// Read HTTP/2 frames, the preface before them, until one of this type has come.
    ReadFrame(u8),
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
    /// Bytes received on all connections.
    bytes: Arc<watch::Sender<usize>>,
    finished: Arc<watch::Sender<usize>>,
    words: Arc<watch::Sender<Vec<&'static str>>>,
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
        let bytes = Arc::new(watch::Sender::new(0));
        let words = Arc::new(watch::Sender::new(Vec::new()));
        let (count, said) = (Arc::clone(&bytes), Arc::clone(&words));
        let server = accept("127.0.0.1:0", move |stream| {
            let (script, keep, done) = (script.clone(), Arc::clone(&keep), Arc::clone(&done));
            let (count, said) = (Arc::clone(&count), said.subscribe());
            async move {
                let slot = {
                    let mut all = keep.lock();
                    all.push(Vec::new());
                    all.len() - 1
                };
                // The other side may close at any time; that ends the script.
                let _ = follow(stream, &script, said, |bytes| {
                    keep.lock()[slot].extend_from_slice(bytes);
                    count.send_modify(|count| *count += bytes.len());
                })
                .await;
                done.send_modify(|count| *count += 1);
            }
        })
        .await?;
        Ok(RawUpstream {
            server,
            received,
            bytes,
            finished,
            words,
        })
    }

    /// Lets every [`Step::Pause`] with this word go on.
    pub fn go_on(&self, word: &'static str) {
        self.words.send_modify(|words| words.push(word));
    }

    /// Waits until these bytes have come on one of the connections.
    ///
    /// # Errors
    /// They do not in time.
    pub async fn wait_received(&self, wanted: &[u8]) -> Result<()> {
        let mut bytes = self.bytes.subscribe();
        let here = |_: &usize| {
            let received = self.received.lock();
            received
                .iter()
                .any(|all| all.windows(wanted.len()).any(|window| window == wanted))
        };
        within("bytes at the upstream", bytes.wait_for(here)).await??;
        Ok(())
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

async fn follow(
    mut stream: TcpStream,
    script: &[Step],
    mut said: watch::Receiver<Vec<&'static str>>,
    mut keep: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    let mut frames = Frames::default();
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
            Step::Repeat(bytes) => return repeat(stream, bytes).await,
            Step::Pause(word) => {
                let _ = said.wait_for(|words| words.contains(word)).await;
            }
            Step::Ignore => std::future::pending().await,
            Step::ReadFrame(kind) => frames.read_until(&mut stream, *kind, &mut keep).await?,
        }
    }
    Ok(())
}

/// Reads beside the writing, so that it is not our own full buffer that stops it.
async fn repeat(stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    // Many at a time: the point is to write faster than anyone wants to read.
    let block = bytes.repeat(16 * 1024 / bytes.len().max(1) + 1);
    let (mut reader, mut writer) = stream.into_split();
    let write = async {
        loop {
            writer.write_all(&block).await?;
        }
    };
    let read = async {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
    }
}

/// HTTP/2 frames as they come in.
#[derive(Default)]
struct Frames {
    preface: bool,
    buffer: Vec<u8>,
}

impl Frames {
    async fn read_until(
        &mut self,
        stream: &mut TcpStream,
        kind: u8,
        keep: &mut impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
        const HEADER: usize = 9;
        loop {
            let start = if self.preface { 0 } else { PREFACE };
            if let Some([high, middle, low, found, ..]) = self.buffer.get(start..start + HEADER) {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                let (found, end) = (*found, start + HEADER + length);
                if self.buffer.len() >= end {
                    self.preface = true;
                    self.buffer.drain(..end);
                    if found == kind {
                        return Ok(());
                    }
                    continue;
                }
            }
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            keep(&buffer[..read]);
            self.buffer.extend_from_slice(&buffer[..read]);
        }
    }
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
