//! What the metrics listener of a process says.

use std::fmt;

use anyhow::{Context, Result};
use pomerium_testing::Client;

/// Every series, as it was at one moment.
pub struct Numbers(String);

impl Numbers {
    /// Asks the metrics listener on `port`.
    pub async fn read(client: &Client, port: u16) -> Result<Numbers> {
        let url = format!("http://127.0.0.1:{port}/metrics");
        Ok(Numbers(client.get(&url).await?.text()))
    }

    /// The value of a series that has these labels among others.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let start = format!("{name}{{");
        let mut lines = self.0.lines().filter(|line| line.starts_with(&start));
        let line = lines.find(|line| labels.iter().all(|label| line.contains(label)));
        let line = line.with_context(|| format!("no {name} with {labels:?}: {self}"))?;
        Ok(line.rsplit(' ').next().context("no value")?.parse()?)
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
