//! Values as records of the databroker, so that replicas share them.
//!
//! Every value is sealed with a key of its own purpose and bound to its place: whoever can read the database learns no
//! key, and whoever can write it plants neither a certificate nor a proof. Locks are leases.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{
    Databroker, Error, Filter, Latest, LeaseRequest, Options, Query, Record, Versions,
};
use pomerium_api::pb::pomerium::internal::{AcmeFile, AcmeProof};
use pomerium_api::records::to_proto_time;
use pomerium_crypto::aead;
use prost::Message as _;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Change, Claim, MAX_KEYS, MAX_VALUE, Shared, Storage, StorageError, safe};

/// What the key of sealed values is derived for, from the shared secret.
pub const AUTOCERT_RECORDS: &str = "pomerium autocert: records";

const FILE: &str = "type.googleapis.com/pomerium.internal.AcmeFile";
const PROOF: &str = "type.googleapis.com/pomerium.internal.AcmeProof";
/// How long a proof stays when its order ended half-way. No order takes longer.
const PROOF_TTL: Duration = Duration::from_secs(15 * 60);
/// How long a new proof may take to every replica.
const SETTLES: Duration = Duration::from_secs(1);
/// The most proofs of others that are shown at one time.
const MOST_PROOFS: usize = 10_000;
/// Records of one page of a listing.
const PAGE: u64 = 500;
/// Changes that may wait until somebody looks.
const WAITING: usize = 1024;
/// Pauses after a databroker that cannot be followed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Records of a databroker.
pub struct RecordStorage {
    broker: Arc<dyn Databroker>,
    clock: Arc<dyn Clock>,
    keys: Vec<Zeroizing<[u8; 32]>>,
    changes: broadcast::Sender<Change>,
}

impl std::fmt::Debug for RecordStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordStorage").finish_non_exhaustive()
    }
}

impl RecordStorage {
    /// Over `broker`. The first key seals, each of them opens: keys that were replaced go on behind the new one.
    #[must_use]
    pub fn new(broker: Arc<dyn Databroker>, clock: Arc<dyn Clock>, keys: &[[u8; 32]]) -> Arc<Self> {
        Arc::new(Self {
            broker,
            clock,
            keys: keys.iter().copied().map(Zeroizing::new).collect(),
            changes: broadcast::Sender::new(WAITING),
        })
    }

    /// Tells of what other processes write, and hands their proofs to `shared`, until `stop`.
    pub async fn follow(self: Arc<Self>, shared: Arc<dyn Shared>, stop: CancellationToken) {
        let shown = Shown {
            storage: &self,
            shared: &*shared,
            ids: Mutex::default(),
        };
        let files = self.again_and_again(|| self.follow_files());
        let proofs = self.again_and_again(|| self.follow_proofs(&shown));
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(files, proofs); } => {}
        }
    }

    async fn again_and_again<F>(&self, once: impl Fn() -> F)
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = self.clock.now();
            match once().await {
                Ok(()) | Err(Error::Resync) => {}
                Err(error) => tracing::debug!(%error, "autocert: the databroker cannot be followed"),
            }
            if self.clock.now().duration_since(begun).as_secs() > 60 {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn follow_files(&self) -> Result<(), Error> {
        let from = self.broker.versions().await?;
        // What was written while nobody followed.
        let _ = self.changes.send(Change::Any);
        let mut stream = self.broker.sync(FILE, from).await?;
        while let Some(record) = stream.next().await {
            let _ = self.changes.send(Change::Of(record?.id));
        }
        Ok(())
    }

    async fn follow_proofs(&self, shown: &Shown<'_>) -> Result<(), Error> {
        let ttl = Options {
            ttl: prost_types::Duration::try_from(PROOF_TTL).ok(),
            ..Options::default()
        };
        self.broker.set_options(PROOF.into(), ttl).await?;
        let from = self.read_proofs(shown).await?;
        let mut stream = self.broker.sync(PROOF, from).await?;
        while let Some(record) = stream.next().await {
            shown.take(&record?);
        }
        Ok(())
    }

    async fn read_proofs(&self, shown: &Shown<'_>) -> Result<Versions, Error> {
        let mut stream = self.broker.sync_latest(PROOF).await?;
        let mut there = HashSet::new();
        while let Some(next) = stream.next().await {
            match next? {
                Latest::Record(record) => {
                    shown.take(&record);
                    there.insert(record.id);
                }
                Latest::Versions(versions) => {
                    shown.keep_only(&there);
                    return Ok(versions);
                }
            }
        }
        Err(Error::Unavailable(
            "the stream of latest records ended early".into(),
        ))
    }

    fn seal(&self, record_type: &str, id: &str, value: &[u8]) -> Result<Vec<u8>, StorageError> {
        let key = self
            .keys
            .first()
            .ok_or_else(|| fault(id, "there is no key to seal with"))?;
        Ok(aead::seal(key, value, &place(record_type, id)))
    }

    fn open(&self, record_type: &str, id: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let place = place(record_type, id);
        self.keys
            .iter()
            .find_map(|key| aead::open(key, sealed, &place).ok())
    }

    fn file(&self, key: &str, value: &[u8]) -> Result<Record, StorageError> {
        if key.is_empty() || value.len() > MAX_VALUE {
            return Err(fault(key, "not a key, or the value is too large"));
        }
        let sealed = self.seal(FILE, key, value)?.into();
        Ok(record(FILE, key, AcmeFile { sealed }.encode_to_vec()))
    }

    async fn remove(&self, record_type: &str, id: &str) -> Result<(), StorageError> {
        let gone = Record {
            deleted_at: Some(to_proto_time(self.clock.now())),
            ..record(record_type, id, Vec::new())
        };
        self.broker
            .put(vec![gone])
            .await
            .map(drop)
            .map_err(|error| broken(id, &error))
    }
}

#[async_trait]
impl Storage for RecordStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let record = match self.broker.get(FILE, key).await {
            Ok(record) => record,
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(broken(key, &error)),
        };
        let data = record.data.unwrap_or_default();
        let file =
            AcmeFile::decode(data.value.as_slice()).map_err(|_| fault(key, "the record is damaged"))?;
        let opened = self.open(FILE, key, &file.sealed);
        let opened = opened.ok_or_else(|| {
            fault(
                key,
                "the record is sealed with another key: was the shared secret replaced, or the record altered?",
            )
        })?;
        Ok(Some(opened))
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<(), StorageError> {
        self.put_all(&[(key.to_owned(), value)]).await
    }

    async fn put_all(&self, values: &[(String, &[u8])]) -> Result<(), StorageError> {
        let records = values.iter().map(|(key, value)| self.file(key, value));
        let first = values.first().map_or("", |(key, _)| key);
        self.broker
            .put(records.collect::<Result<_, _>>()?)
            .await
            .map(drop)
            .map_err(|error| broken(first, &error))
    }

    async fn put_if_absent(&self, key: &str, value: &[u8]) -> Result<bool, StorageError> {
        let created = self.broker.replace(self.file(key, value)?).await;
        created
            .map(|record| record.is_some())
            .map_err(|error| broken(key, &error))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let under = format!("{prefix}/");
        let mut keys = Vec::new();
        let mut offset = 0;
        loop {
            let query = Query {
                record_type: FILE.into(),
                filter: Filter::default(),
                text: String::new(),
                offset,
                limit: PAGE,
            };
            let page = self
                .broker
                .query(query)
                .await
                .map_err(|error| broken(prefix, &error))?;
            offset += page.records.len() as u64;
            let found = page.records.into_iter().map(|record| record.id);
            keys.extend(found.filter(|key| prefix.is_empty() || key.starts_with(&under)));
            if offset >= page.total || offset >= MAX_KEYS as u64 {
                keys.sort();
                keys.dedup();
                return Ok(keys);
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.remove(FILE, key).await
    }

    /// By the clock of the databroker: that of one process is no measure for another.
    async fn claim(&self, name: &str, claim: &Claim) -> Result<bool, StorageError> {
        let request = LeaseRequest {
            name: lease_name(name),
            ttl: claim.lease,
            id: Some(claim.owner.clone()),
        };
        let held = self.broker.lease(request).await;
        held.map(|id| id.is_some()).map_err(|error| broken(name, &error))
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError> {
        let released = self.broker.release_lease(lease_name(name), owner.to_owned());
        released.await.map_err(|error| broken(name, &error))
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        Some(self.changes.subscribe())
    }

    async fn publish(&self, id: &str, content: &[u8]) -> Result<(), StorageError> {
        let sealed = self.seal(PROOF, id, content)?.into();
        let proof = record(PROOF, id, AcmeProof { sealed }.encode_to_vec());
        self.broker
            .put(vec![proof])
            .await
            .map_err(|error| broken(id, &error))?;
        tokio::time::sleep(SETTLES).await;
        Ok(())
    }

    async fn withdraw(&self, id: &str) -> Result<(), StorageError> {
        self.remove(PROOF, id).await
    }
}

/// The proofs that are shown at this moment.
struct Shown<'a> {
    storage: &'a RecordStorage,
    shared: &'a dyn Shared,
    ids: Mutex<HashSet<String>>,
}

impl Shown<'_> {
    fn take(&self, record: &Record) {
        let mut ids = self.ids.lock();
        if record.deleted_at.is_some() {
            ids.remove(&record.id);
            return self.shared.forget(&record.id);
        }
        if ids.len() >= MOST_PROOFS && !ids.contains(&record.id) {
            return tracing::warn!("autocert: too many proofs at one time; one is left out");
        }
        let data = record.data.as_ref().map(|data| data.value.as_slice());
        let sealed = data.and_then(|data| AcmeProof::decode(data).ok());
        match sealed.and_then(|proof| self.storage.open(PROOF, &record.id, &proof.sealed)) {
            Some(content) => {
                ids.insert(record.id.clone());
                self.shared.show(&record.id, &content);
            }
            None => tracing::warn!("autocert: a proof that is not sealed with the shared secret is left out"),
        }
    }

    fn keep_only(&self, there: &HashSet<String>) {
        self.ids.lock().retain(|id| {
            let kept = there.contains(id);
            if !kept {
                self.shared.forget(id);
            }
            kept
        });
    }
}

fn lease_name(name: &str) -> String {
    format!("autocert/{}", safe(name))
}

fn record(record_type: &str, id: &str, value: Vec<u8>) -> Record {
    Record {
        r#type: record_type.to_owned(),
        id: id.to_owned(),
        data: Some(prost_types::Any {
            type_url: record_type.to_owned(),
            value,
        }),
        ..Record::default()
    }
}

/// What a value is bound to. No type holds a zero byte.
fn place(record_type: &str, id: &str) -> Vec<u8> {
    [record_type.as_bytes(), b"\0", id.as_bytes()].concat()
}

fn fault(key: &str, reason: &str) -> StorageError {
    StorageError::new(key, reason)
}

fn broken(key: &str, error: &Error) -> StorageError {
    StorageError::new(key, error.to_string())
}
