//! A receiver of audit records, in any mood.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::within;

/// What it does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    Take,
    /// Answers with this status and forgets it.
    Refuse(u16),
    /// Reads it and never answers.
    Silent,
    /// Answers with what is no HTTP.
    Garbage,
}

/// A running receiver.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct State {
    mood: watch::Sender<Mood>,
    records: Mutex<Vec<Value>>,
    heads: Mutex<Vec<String>>,
    attempts: watch::Sender<u64>,
}

impl Collector {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(mood: Mood) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            mood: watch::channel(mood).0,
            records: Mutex::default(),
            heads: Mutex::default(),
            attempts: watch::channel(0).0,
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&serving)));
            }
        });
        Ok(Self {
            address,
            state,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Where batches are posted to.
    pub fn url(&self) -> String {
        format!("http://{}/records", self.address)
    }

    /// Changes the mood; batches that were met with silence are dropped.
    pub fn be(&self, mood: Mood) {
        self.state.mood.send_replace(mood);
    }

    /// The records so far.
    pub fn records(&self) -> Vec<Value> {
        self.state.records.lock().clone()
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.state.heads.lock().clone()
    }

    /// Waits until so many batches were offered.
    ///
    /// # Errors
    /// They do not come in time.
    pub async fn wait_for_attempts(&self, count: u64) -> Result<()> {
        let mut attempts = self.state.attempts.subscribe();
        within("batches", attempts.wait_for(|seen| *seen >= count))
            .await?
            .map(|_| ())
            .context("gone")
    }

    /// Waits until the records are as wanted.
    ///
    /// # Errors
    /// They do not become so in time.
    pub async fn wait(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let mut attempts = self.state.attempts.subscribe();
        let search = async {
            loop {
                attempts.borrow_and_update();
                let records = self.records();
                if wanted(&records) {
                    return records;
                }
                if attempts.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        within(what, search).await
    }
}

async fn connection(mut stream: TcpStream, state: Arc<State>) {
    while let Ok(Some((head, body))) = request(&mut stream).await {
        state.heads.lock().push(head);
        let mood = *state.mood.borrow();
        if mood == Mood::Take {
            let lines = body
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or(Value::Null));
            state.records.lock().extend(lines);
        }
        state.attempts.send_modify(|attempts| *attempts += 1);
        let answer = match mood {
            Mood::Take => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Mood::Refuse(status) => format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\n\r\n"),
            Mood::Silent => {
                let mut moods = state.mood.subscribe();
                let _ = moods.wait_for(|mood| *mood != Mood::Silent).await;
                return;
            }
            Mood::Garbage => "\u{1}\u{2} this is no HTTP \r\n\r\n".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || mood == Mood::Garbage {
            return;
        }
    }
}

/// Head and body of the next request; none at the end.
async fn request(stream: &mut TcpStream) -> Result<Option<(String, String)>> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
        if read.len() > 1 << 24 {
            bail!("a head without end");
        }
    };
    let head = String::from_utf8(read[..end].to_vec())?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .context("no length")?;
    let mut body = read.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    body.truncate(length);
    Ok(Some((head, String::from_utf8(body)?)))
}
