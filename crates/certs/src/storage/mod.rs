//! Where certificates and accounts are kept: one trait, [`Storage`], with a folder ([`FolderStorage`]), an object store
//! ([`ObjectStorage`]) or records of the databroker ([`RecordStorage`]) behind it, and the lock that lets one of several
//! processes order ([`Lock`]).
//!
//! Keys are relative paths with `/`. What must not live here: what the keys mean (that is
//! [`acme`](crate::acme) and [`ocsp`](crate::ocsp)).

mod address;
mod folder;
mod lock;
mod object;
mod records;

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::broadcast;

pub use address::{AddressError, open_object_store};
pub use folder::FolderStorage;
pub use lock::{Lock, LockError, acquire};
pub use object::ObjectStorage;
pub use records::{AUTOCERT_RECORDS, RecordStorage};

/// The largest value that is read, in bytes. A chain with its extras stays far below.
pub const MAX_VALUE: usize = 1024 * 1024;
/// The most keys of one listing.
pub const MAX_KEYS: usize = 100_000;

/// A small store of named values that several processes may share.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The value of `key`, if there is one.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Writes whole or not at all; readers see the old value or the new one.
    async fn put(&self, key: &str, value: &[u8]) -> Result<(), StorageError>;

    /// Writes only where nothing is; false when something was there.
    async fn put_if_absent(&self, key: &str, value: &[u8]) -> Result<bool, StorageError>;

    /// Every key that begins with the folder `prefix`, in order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;

    /// Removes a value; it is no error when there is none.
    async fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// Takes or extends the lock `name` for `owner`, in one step that two processes cannot both do. False when
    /// somebody else holds it and `claim.now` is before its end.
    async fn claim(&self, name: &str, claim: &Claim) -> Result<bool, StorageError>;

    /// Gives the lock back if `owner` still holds it.
    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError>;

    /// Writes several values in order; all or none, where the storage can.
    async fn put_all(&self, values: &[(String, &[u8])]) -> Result<(), StorageError> {
        for (key, value) in values {
            self.put(key, value).await?;
        }
        Ok(())
    }

    /// Tells of values that are written, also by other processes; `None` where that cannot be known.
    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        None
    }

    /// Shows something to every process that shares the storage, for the time of one order; done when they may be
    /// expected to have seen it. Nothing is shown where processes cannot be told.
    async fn publish(&self, id: &str, content: &[u8]) -> Result<(), StorageError> {
        let _ = (id, content);
        Ok(())
    }

    /// Takes back what was published.
    async fn withdraw(&self, id: &str) -> Result<(), StorageError> {
        let _ = id;
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The value of this key.
    Of(String),
    /// Nobody knows; it may be anything.
    Any,
}

/// Where published things of all processes are shown.
pub trait Shared: Send + Sync + 'static {
    /// Something new, or anew.
    fn show(&self, id: &str, content: &[u8]);

    /// It was taken back.
    fn forget(&self, id: &str);
}

/// A wish for a lock.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who wants it: different for every attempt.
    pub owner: String,
    /// The present.
    pub now: Timestamp,
    /// For how long.
    pub lease: Duration,
}

/// What a lock holds, in the form of the original (spec proxy.md 3).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Held {
    #[serde(rename = "ID")]
    id: String,
    expires: Timestamp,
}

impl Held {
    fn by(claim: &Claim) -> Self {
        let until = claim.now.checked_add(claim.lease);
        Self {
            id: claim.owner.clone(),
            expires: until.unwrap_or(Timestamp::MAX),
        }
    }

    /// Whether `claim` must wait for the lock as it is written in `bytes`. What cannot be read is nobody's.
    fn blocks(bytes: &[u8], claim: &Claim) -> bool {
        serde_json::from_slice::<Self>(bytes)
            .is_ok_and(|held| held.id != claim.owner && held.expires > claim.now)
    }

    fn is_owned(bytes: &[u8], owner: &str) -> bool {
        serde_json::from_slice::<Self>(bytes).is_ok_and(|held| held.id == owner)
    }

    fn to_json(&self) -> Result<Vec<u8>, StorageError> {
        serde_json::to_vec(self).map_err(|error| StorageError::new("locks", error.to_string()))
    }
}

/// The key of a lock.
fn lock_key(name: &str) -> String {
    format!("locks/{}", safe(name))
}

/// A storage that does not answer, or answers nonsense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("autocert_dir: {key}: {reason}")]
pub struct StorageError {
    /// What was read or written.
    pub key: String,
    /// What happened; never with credentials.
    pub reason: String,
}

impl StorageError {
    pub(crate) fn new(key: &str, reason: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

/// One component of a key, made of what every file system takes: the rule of certmagic, so that its files
/// are found.
#[must_use]
pub fn safe(text: &str) -> String {
    let text = text.trim().to_lowercase();
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' => out.push('_'),
            '+' => out.push_str("_plus_"),
            '*' => out.push_str("wildcard_"),
            ':' => out.push('-'),
            _ if character.is_ascii_alphanumeric() || "_@.-".contains(character) => out.push(character),
            _ => {}
        }
    }
    out.replace("..", "")
}
