//! Opens the databroker the settings ask for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::Databroker;
use pomerium_certs::DerivedAuthority;
use pomerium_config::settings::{DatabrokerSettings, Settings};
use pomerium_crypto::kdf;
use pomerium_databroker::{AT_REST, FileStore, MemoryStore, OpenError, PostgresStore, Server, Store};
use tokio::sync::OwnedRwLockWriteGuard;

use super::remote::Way;
use super::switch::{Source, Switch};
use crate::handover::relay::Relay;

/// How long a new process waits until the old one has closed the store.
const CLOSING: Duration = Duration::from_secs(10);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// The databroker of this process, and how to close it.
pub struct Broker {
    /// For everyone who reads and writes records.
    pub handle: Arc<dyn Databroker>,
    switch: Arc<Switch>,
    opening: Opening,
}

/// What it takes to open the store.
#[derive(Clone)]
enum Opening {
    /// Kept by this process.
    Own {
        settings: DatabrokerSettings,
        /// The first seals, each of them opens.
        keys: Vec<[u8; 32]>,
        clock: Arc<dyn Clock>,
    },
    /// Kept by another one.
    Other(Way),
}

impl Broker {
    /// The way to the databroker, where another process keeps the records.
    pub fn way(&self) -> Option<&Way> {
        match &self.opening {
            Opening::Other(way) => Some(way),
            Opening::Own { .. } => None,
        }
    }

    /// Ends every stream; records that were acknowledged are already durable.
    pub fn close(&self) {
        self.switch.close();
    }

    /// Closes the store for another process. What is under way is finished; whoever asks from here on waits
    /// until [`Released`] says who answers.
    pub async fn release(&self) -> Released {
        Released {
            place: self.switch.clear().await,
            opening: self.opening.clone(),
        }
    }
}

/// A store that was given up for another process.
pub struct Released {
    place: OwnedRwLockWriteGuard<Source>,
    opening: Opening,
}

impl Released {
    /// The other process answers from here on.
    pub fn relay(mut self, relay: Relay) {
        *self.place = Source {
            broker: Arc::new(relay),
            close: Box::new(|| ()),
        };
    }

    /// The other process is gone: this one goes on. Errors when the store cannot be opened; then this process
    /// has none.
    pub async fn reopen(mut self) -> anyhow::Result<()> {
        *self.place = self.opening.open_once_free().await?;
        Ok(())
    }
}

/// Opens the store, or the way to the process that has it. Must be called within a tokio runtime. `waiting`: another
/// process is about to close it.
///
/// Errors when the store belongs to another secret, is in use by another process, or cannot be read.
pub async fn open(
    settings: &Settings,
    keys: (&[u8; 32], &DerivedAuthority),
    clock: Arc<dyn Clock>,
    waiting: bool,
) -> anyhow::Result<Broker> {
    let opening = match &settings.internal.databroker {
        Some(remote) => Opening::Other(Way::new(remote, settings, keys, clock)?),
        None => Opening::Own {
            settings: settings.databroker.clone(),
            keys: at_rest(settings)?,
            clock,
        },
    };
    if matches!(
        &opening,
        Opening::Own {
            settings: DatabrokerSettings::Memory,
            ..
        }
    ) {
        tracing::warn!("databroker_storage_type is memory: sessions end with this process");
    }
    let source = if waiting {
        opening.open_once_free().await?
    } else {
        opening.open().await?
    };
    let switch = Arc::new(Switch::new(source));
    Ok(Broker {
        handle: Arc::clone(&switch) as Arc<dyn Databroker>,
        switch,
        opening,
    })
}

/// The keys of records at rest.
pub fn at_rest(settings: &Settings) -> anyhow::Result<Vec<[u8; 32]>> {
    settings
        .at_rest
        .iter()
        .map(|key| {
            Ok(kdf::derive(
                &super::core::secret(key.expose(), "databroker_encryption_keys")?,
                AT_REST,
            ))
        })
        .collect()
}

impl Opening {
    async fn open(&self) -> anyhow::Result<Source> {
        let (settings, keys, clock) = match self {
            Self::Own {
                settings,
                keys,
                clock,
            } => (settings, keys, Arc::clone(clock)),
            Self::Other(way) => {
                return Ok(Source {
                    broker: Arc::new(way.client()),
                    close: Box::new(|| ()),
                });
            }
        };
        Ok(match settings {
            DatabrokerSettings::Memory => source(Server::start(MemoryStore::new(), clock)),
            DatabrokerSettings::File(folder) => source(Server::start(open_file(folder, keys)?, clock)),
            DatabrokerSettings::Postgres(connection) => {
                let connection = std::str::from_utf8(connection.expose())
                    .context("databroker_storage_connection_string is no text")?;
                let store = PostgresStore::open(connection, keys)
                    .await
                    .context("databroker")?;
                source(Server::start(store, clock))
            }
        })
    }

    /// Waits a while for a process that still has it.
    async fn open_once_free(&self) -> anyhow::Result<Source> {
        let deadline = tokio::time::Instant::now() + CLOSING;
        loop {
            match self.open().await {
                Err(error) if is_in_use(&error) && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                result => return result,
            }
        }
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<OpenError>(), Some(OpenError::InUse { .. }))
}

fn open_file(folder: &Path, keys: &[[u8; 32]]) -> anyhow::Result<FileStore> {
    FileStore::open(folder, keys)
        .with_context(|| format!("databroker: the store in {} cannot be opened", folder.display()))
}

fn source<S>(server: Arc<Server<S>>) -> Source
where
    Server<S>: Databroker,
    S: Store,
{
    let closing = Arc::downgrade(&server);
    Source {
        broker: server,
        close: Box::new(move || {
            if let Some(server) = closing.upgrade() {
                server.close();
            }
        }),
    }
}
