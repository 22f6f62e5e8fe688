//! A lock that ends by itself when its holder does.

use std::sync::Arc;
use std::time::Duration;

use pomerium_api::clock::Clock;
use tokio::task::JoinHandle;

use super::{Claim, Storage, StorageError};

/// How long a lock lasts without a sign of life (spec proxy.md 3).
const LEASE: Duration = Duration::from_secs(30);
/// How often its holder gives one.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a waiting process looks.
const POLL: Duration = Duration::from_secs(1);

/// Why a lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else had it for the whole time.
    #[error("another process is at work on it")]
    Busy,
    /// The storage does not answer.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A lock that is ours. [`Lock::release`] gives it back; a lock that is only dropped ends by itself after half a
/// minute.
#[must_use]
pub struct Lock {
    storage: Arc<dyn Storage>,
    name: String,
    owner: String,
    heartbeat: JoinHandle<()>,
}

/// Waits for the lock `name`, at most `patience`.
///
/// # Errors
/// Somebody else keeps it, or the storage fails.
pub async fn acquire(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    name: &str,
    patience: Duration,
) -> Result<Lock, LockError> {
    let owner = hex::encode(pomerium_crypto::random::bytes::<16>());
    let claim = move |owner: &str, now| Claim {
        owner: owner.to_owned(),
        now,
        lease: LEASE,
    };
    let deadline = tokio::time::Instant::now() + patience;
    while !storage.claim(name, &claim(&owner, clock.now())).await? {
        if tokio::time::Instant::now() + POLL > deadline {
            return Err(LockError::Busy);
        }
        tokio::time::sleep(POLL).await;
    }
    let heartbeat = {
        let (storage, clock, name, owner) = (
            Arc::clone(storage),
            Arc::clone(clock),
            name.to_owned(),
            owner.clone(),
        );
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                match storage.claim(&name, &claim(&owner, clock.now())).await {
                    Ok(true) => {}
                    Ok(false) => return tracing::warn!(name, "autocert: another process took the lock over"),
                    Err(error) => tracing::warn!(%error, name, "autocert: the lock could not be extended"),
                }
            }
        })
    };
    Ok(Lock {
        storage: Arc::clone(storage),
        name: name.to_owned(),
        owner,
        heartbeat,
    })
}

impl Lock {
    /// Gives it back.
    pub async fn release(self) {
        self.heartbeat.abort();
        if let Err(error) = self.storage.release(&self.name, &self.owner).await {
            tracing::warn!(%error, name = self.name, "autocert: a lock could not be released; it ends by itself");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}
