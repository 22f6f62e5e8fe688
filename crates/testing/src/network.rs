//! Who needs the addresses of this machine to stay as they are, and who changes them.
//!
//! Chromium gives up every connection (`ERR_NETWORK_CHANGED`) when an interface of the machine gets or loses an
//! address, so a test that makes interfaces and one that drives a browser wait for each other, over all processes.

use std::fs::File;

use anyhow::{Context, Result};

/// Held for as long as the addresses are to stay, or to be changed.
#[derive(Debug)]
pub struct Network {
    _lock: File,
}

impl Network {
    /// Waits until nobody changes addresses; any number of holders at once.
    ///
    /// # Errors
    /// The lock file cannot be made or locked.
    pub async fn steady() -> Result<Network> {
        Self::locked(File::lock_shared).await
    }

    /// Waits until nobody needs the addresses to stay; one holder at a time.
    ///
    /// # Errors
    /// The lock file cannot be made or locked.
    pub async fn changing() -> Result<Network> {
        Self::locked(File::lock).await
    }

    async fn locked(lock: fn(&File) -> std::io::Result<()>) -> Result<Network> {
        let path = std::env::temp_dir().join("pomerium-test-network");
        let take = move || {
            let file = File::create(&path)?;
            lock(&file)?;
            Ok::<_, std::io::Error>(file)
        };
        let file = tokio::task::spawn_blocking(take).await?;
        Ok(Network {
            _lock: file.context("cannot lock the file that says who changes the network")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_changes_it_while_somebody_needs_it() {
        let needed = Network::steady().await.unwrap();
        let again = Network::steady().await.unwrap();
        let mut change = tokio::spawn(Network::changing());
        tokio::select! {
            biased;
            _ = &mut change => panic!("changed under its user"),
            () = tokio::task::yield_now() => {}
        }
        drop((needed, again));
        assert!(change.await.unwrap().is_ok());
    }
}
