//! The upstreams of a case: one per route; each keeps the head it received and gives the canned answer.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Seen = Arc<Mutex<Option<(usize, String)>>>;

pub(super) struct Upstreams {
    pub(super) addresses: Vec<SocketAddr>,
    seen: Seen,
    tasks: Vec<JoinHandle<()>>,
}

impl Upstreams {
    pub(super) async fn start(count: usize, answer: &Value) -> std::io::Result<Self> {
        let answer: Arc<str> = canned(answer).into();
        let mut upstreams = Self {
            addresses: Vec::new(),
            seen: Seen::default(),
            tasks: Vec::new(),
        };
        for number in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            upstreams.addresses.push(listener.local_addr()?);
            let (seen, answer) = (upstreams.seen.clone(), answer.clone());
            upstreams.tasks.push(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // A connection that breaks tells itself: nothing was seen.
                    let _ = serve(stream, number, &answer, &seen).await;
                }
            }));
        }
        Ok(upstreams)
    }

    /// What arrived, and at which route's upstream.
    pub(super) fn seen(&self) -> Option<(usize, String)> {
        self.seen.lock().clone()
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(mut stream: TcpStream, number: usize, answer: &str, seen: &Seen) -> std::io::Result<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    *seen.lock() = Some((number, String::from_utf8_lossy(&read).into_owned()));
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn canned(answer: &Value) -> String {
    let status = answer["status"].as_u64().unwrap_or(200);
    let mut head = format!("HTTP/1.1 {status} Canned\r\n");
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap_or_default()));
    }
    if status == 101 {
        head.push_str("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    } else {
        head.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
    }
    head
}
