//! Opens the databroker the settings ask for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::Databroker;
use pomerium_config::settings::DatabrokerSettings;
use pomerium_crypto::kdf;
use pomerium_databroker::{AT_REST, FileStore, MemoryStore, OpenError, Server, Store};
use tokio::sync::OwnedRwLockWriteGuard;

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
struct Opening {
    settings: DatabrokerSettings,
    shared: [u8; 32],
    clock: Arc<dyn Clock>,
}

impl Broker {
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

/// Opens the store. Must be called within a tokio runtime. `waiting`: another process is about to close it.
///
/// Errors when the store belongs to another secret, is in use by another process, or cannot be read.
pub async fn open(
    settings: &DatabrokerSettings,
    shared: &[u8; 32],
    clock: Arc<dyn Clock>,
    waiting: bool,
) -> anyhow::Result<Broker> {
    let opening = Opening {
        settings: settings.clone(),
        shared: *shared,
        clock,
    };
    if matches!(settings, DatabrokerSettings::Memory) {
        tracing::warn!("databroker_storage_type is memory: sessions end with this process");
    }
    let source = if waiting {
        opening.open_once_free().await?
    } else {
        opening.open()?
    };
    let switch = Arc::new(Switch::new(source));
    Ok(Broker {
        handle: Arc::clone(&switch) as Arc<dyn Databroker>,
        switch,
        opening,
    })
}

impl Opening {
    fn open(&self) -> anyhow::Result<Source> {
        Ok(match &self.settings {
            DatabrokerSettings::Memory => source(Server::start(MemoryStore::new(), Arc::clone(&self.clock))),
            DatabrokerSettings::File(folder) => source(Server::start(
                open_file(folder, &self.shared)?,
                Arc::clone(&self.clock),
            )),
        })
    }

    /// Waits a while for a process that still has it.
    async fn open_once_free(&self) -> anyhow::Result<Source> {
        let deadline = tokio::time::Instant::now() + CLOSING;
        loop {
            match self.open() {
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

fn open_file(folder: &Path, shared: &[u8; 32]) -> anyhow::Result<FileStore> {
    FileStore::open(folder, Some(kdf::derive(shared, AT_REST)))
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
