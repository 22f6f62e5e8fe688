//! A lock that ends by itself when its holder does.

use std::sync::Arc;
use std::time::Duration;

use pomerium_api::clock::Clock;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
    /// It was ours, and is not any more.
    #[error("the lock was lost to another process, or could not be held on to")]
    Lost,
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
    lost: CancellationToken,
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
    let deadline = Instant::now() + patience;
    let mut asked = Instant::now();
    while !storage.claim(name, &claim(&owner, clock)).await? {
        if Instant::now() + POLL > deadline {
            return Err(LockError::Busy);
        }
        tokio::time::sleep(POLL).await;
        asked = Instant::now();
    }
    let lost = CancellationToken::new();
    let heartbeat = Heartbeat {
        storage: Arc::clone(storage),
        clock: Arc::clone(clock),
        name: name.to_owned(),
        owner: owner.clone(),
        held_until: asked + LEASE,
        lost: lost.clone(),
    };
    Ok(Lock {
        storage: Arc::clone(storage),
        name: name.to_owned(),
        owner,
        heartbeat: tokio::spawn(heartbeat.run()),
        lost,
    })
}

fn claim(owner: &str, clock: &Arc<dyn Clock>) -> Claim {
    Claim {
        owner: owner.to_owned(),
        now: clock.now(),
        lease: LEASE,
    }
}

/// Extends a lock for as long as it can.
struct Heartbeat {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    name: String,
    owner: String,
    /// Until then nobody else can have it.
    held_until: Instant,
    lost: CancellationToken,
}

impl Heartbeat {
    async fn run(mut self) {
        while self.beat().await {}
        tracing::warn!(
            name = self.name,
            "autocert: the lock was lost; what was done under it stops"
        );
        self.lost.cancel();
    }

    /// False when the lock is lost, or would be before the next attempt.
    async fn beat(&mut self) -> bool {
        tokio::time::sleep(HEARTBEAT).await;
        let asked = Instant::now();
        let claim = claim(&self.owner, &self.clock);
        let claimed = self.storage.claim(&self.name, &claim);
        match tokio::time::timeout(HEARTBEAT, claimed).await {
            Ok(Ok(true)) => self.held_until = asked + LEASE,
            Ok(Ok(false)) => return false,
            Ok(Err(error)) => {
                tracing::warn!(%error, name = self.name, "autocert: the lock could not be extended");
            }
            Err(_) => tracing::warn!(
                name = self.name,
                "autocert: the lock could not be extended in time"
            ),
        }
        Instant::now() + HEARTBEAT < self.held_until
    }
}

impl Lock {
    /// Completes when it is not ours any more: what is done under it has to stop.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Does `work` for as long as the lock is ours, and gives it back.
    ///
    /// # Errors
    /// [`LockError::Lost`]; the work was dropped half-way then.
    pub async fn during<T, E: From<LockError>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let result = tokio::select! {
            result = work => result,
            () = self.lost() => Err(LockError::Lost.into()),
        };
        self.release().await;
        result
    }

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
