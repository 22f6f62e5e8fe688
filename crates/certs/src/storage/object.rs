//! Values as objects in a bucket.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion};

use super::{Claim, Held, MAX_KEYS, MAX_VALUE, Storage, StorageError, lock_key};

/// A bucket, or a part of one. The store must know conditional writes; S3, MinIO and Google's do.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl ObjectStorage {
    /// Keys of `store` that begin with `prefix` (without slashes around it; may be empty).
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            store,
            prefix: prefix.trim_matches('/').to_owned(),
        }
    }

    fn path(&self, key: &str) -> Path {
        if self.prefix.is_empty() {
            Path::from(key)
        } else {
            Path::from(format!("{}/{key}", self.prefix))
        }
    }

    /// The value with the mark of its version.
    async fn versioned(&self, key: &str) -> Result<Option<(Vec<u8>, UpdateVersion)>, StorageError> {
        let found = match self.store.get(&self.path(key)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(fault(key, &error)),
        };
        if found.meta.size > MAX_VALUE as u64 {
            return Err(StorageError::new(key, "the object is too large"));
        }
        let version = UpdateVersion {
            e_tag: found.meta.e_tag.clone(),
            version: found.meta.version.clone(),
        };
        let bytes = found.bytes().await.map_err(|error| fault(key, &error))?;
        Ok(Some((bytes.to_vec(), version)))
    }

    /// False when the condition of `mode` does not hold.
    async fn write(&self, key: &str, value: &[u8], mode: PutMode) -> Result<bool, StorageError> {
        let payload = PutPayload::from(value.to_vec());
        match self.store.put_opts(&self.path(key), payload, mode.into()).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                Ok(false)
            }
            Err(error) => Err(fault(key, &error)),
        }
    }
}

#[async_trait]
impl Storage for ObjectStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.versioned(key).await?.map(|(value, _)| value))
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<(), StorageError> {
        if self.write(key, value, PutMode::Overwrite).await? {
            return Ok(());
        }
        Err(StorageError::new(key, "there is no such bucket"))
    }

    async fn put_if_absent(&self, key: &str, value: &[u8]) -> Result<bool, StorageError> {
        self.write(key, value, PutMode::Create).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let under = self.path(prefix);
        let skip = match self.prefix.len() {
            0 => 0,
            length => length + 1,
        };
        let mut objects = self.store.list(Some(&under));
        let mut keys = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(|error| fault(prefix, &error))? {
            if keys.len() >= MAX_KEYS {
                return Err(StorageError::new(prefix, "too many objects"));
            }
            keys.push(object.location.as_ref().chars().skip(skip).collect());
        }
        keys.sort();
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(fault(key, &error)),
        }
    }

    async fn claim(&self, name: &str, claim: &Claim) -> Result<bool, StorageError> {
        let key = lock_key(name);
        let content = Held::by(claim).to_json()?;
        match self.versioned(&key).await? {
            None => self.put_if_absent(&key, &content).await,
            Some((held, _)) if Held::blocks(&held, claim) => Ok(false),
            // Only who saw the last version replaces it.
            Some((_, version)) => self.write(&key, &content, PutMode::Update(version)).await,
        }
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError> {
        let key = lock_key(name);
        match self.versioned(&key).await? {
            Some((held, _)) if Held::is_owned(&held, owner) => self.delete(&key).await,
            _ => Ok(()),
        }
    }
}

/// Only the sort of the failure and what the server said: the full text of the library names addresses, and those may
/// hold credentials.
fn fault(key: &str, error: &Error) -> StorageError {
    let reason = match error {
        Error::PermissionDenied { .. } => {
            "the store denies access: check the credentials and their rights".into()
        }
        Error::Unauthenticated { .. } => "the store does not accept the credentials".into(),
        Error::NotImplemented { operation, .. } => format!("the store cannot {operation}"),
        other => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(next) = cause.source() {
                cause = next;
            }
            format!("the object store failed: {cause}")
        }
    };
    StorageError::new(key, reason)
}
