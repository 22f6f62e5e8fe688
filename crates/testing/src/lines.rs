//! Lines that a program writes, collected and waited for.

use std::sync::Arc;

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::PATIENCE;

/// What a program has said so far. Clones share the lines.
#[derive(Debug, Clone)]
pub struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Default for Lines {
    fn default() -> Self {
        Lines {
            lines: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Lines {
    /// Reads `source` to its end in the background; the task is done when all of it is here.
    pub fn collect<R: AsyncRead + Unpin + Send + 'static>(&self, source: R) -> JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(source);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .await
                .is_ok_and(|read| read > 0)
            {
                this.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        })
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock();
        lines.push(line);
        self.count.send_replace(lines.len());
    }

    /// Every line so far.
    pub fn all(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// How many lines there are: a mark for [`Lines::wait_from`].
    pub fn mark(&self) -> usize {
        self.lines.lock().len()
    }

    /// The lines that are JSON objects.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.lines
            .lock()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for a line; those already written count.
    ///
    /// # Errors
    /// It does not come in time; the error holds the last lines.
    pub async fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.wait_from(0, what, wanted).await
    }

    /// Waits for a line behind `mark`.
    ///
    /// # Errors
    /// It does not come in time; the error holds the last lines.
    pub async fn wait_from(&self, mark: usize, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut count = self.count.subscribe();
        let search = async {
            let mut next = mark;
            loop {
                count.borrow_and_update();
                {
                    let lines = self.lines.lock();
                    if let Some(found) = lines.iter().skip(next).find(|line| wanted(line)) {
                        return found.clone();
                    }
                    next = next.max(lines.len());
                }
                if count.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        if let Ok(line) = tokio::time::timeout(PATIENCE, search).await {
            return Ok(line);
        }
        bail!(
            "no line with {what} within {} s; the last lines:\n{}",
            PATIENCE.as_secs(),
            self.tail(30)
        )
    }

    /// Waits for a JSON line behind `mark`.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_json(
        &self,
        mark: usize,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value> {
        let line = self
            .wait_from(mark, what, |line| {
                serde_json::from_str(line).is_ok_and(|value| wanted(&value))
            })
            .await?;
        Ok(serde_json::from_str(&line)?)
    }

    /// The last `count` lines as one text.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}
