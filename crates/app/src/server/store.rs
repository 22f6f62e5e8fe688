//! Opens the databroker the settings ask for.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::Databroker;
use pomerium_config::settings::DatabrokerSettings;
use pomerium_crypto::kdf;
use pomerium_databroker::{FileStore, MemoryStore, Server, Store};

/// What the key of sealed values is derived for.
const AT_REST: &str = "databroker-at-rest";

/// The databroker of this process, and how to close it.
pub struct Broker {
    /// For everyone who reads and writes records.
    pub handle: Arc<dyn Databroker>,
    close: Box<dyn Fn() + Send + Sync>,
}

impl Broker {
    /// Ends every stream; records that were acknowledged are already durable.
    pub fn close(&self) {
        (self.close)();
    }
}

/// Opens the store. Must be called within a tokio runtime.
///
/// Errors when the store belongs to another secret, is in use by another process, or cannot be read.
pub fn open(
    settings: &DatabrokerSettings,
    shared: &[u8; 32],
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Broker> {
    match settings {
        DatabrokerSettings::Memory => {
            tracing::warn!("databroker_storage_type is memory: sessions end with this process");
            let server = Server::start(MemoryStore::new(), clock);
            Ok(broker(&server))
        }
        DatabrokerSettings::File(folder) => {
            let server = Server::start(open_file(folder, shared)?, clock);
            Ok(broker(&server))
        }
    }
}

fn open_file(folder: &Path, shared: &[u8; 32]) -> anyhow::Result<FileStore> {
    FileStore::open(folder, Some(kdf::derive(shared, AT_REST)))
        .with_context(|| format!("databroker: the store in {} cannot be opened", folder.display()))
}

fn broker<S>(server: &Arc<Server<S>>) -> Broker
where
    Server<S>: Databroker,
    S: Store,
{
    let closing = Arc::clone(server);
    Broker {
        handle: Arc::clone(server) as Arc<dyn Databroker>,
        close: Box::new(move || closing.close()),
    }
}
