//! The databroker for clients in other processes: the gRPC services of spec databroker.md 2 over what is [`Served`], and
//! the management service of spec config-api.md by gRPC, gRPC-Web and Connect, on one listener.
//!
//! [`Router`] is all of them as one service, for HTTP/2 and, as far as the management service goes, HTTP/1.1. Who may
//! call what is decided in one place, `front`, before any service sees the request: whoever knows the shared secret
//! ([`Authenticated`]) may call everything, anybody else what is listed there as open. What calls mean is in `records`,
//! `writes`, `copying`, `checkpoint`, `registry`, `health`, `reflection` and [`manage`]; how the management service speaks is in
//! `dialect`.

mod alive;
mod checkpoint;
mod copying;
mod dialect;
mod front;
mod health;
pub mod manage;
mod mode;
mod reason;
mod records;
mod reflection;
mod registry;
#[cfg(test)]
mod standby_tests;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod writes;

use std::sync::Arc;

use pomerium_api::clock::Clock;
use pomerium_api::pb::databroker::checkpoint_service_server::CheckpointServiceServer;
use pomerium_api::pb::databroker::data_broker_service_server::DataBrokerServiceServer;
use pomerium_api::pb::pomerium::internal::conditional_writes_server::ConditionalWritesServer;
use pomerium_api::pb::pomerium::internal::copying_server::CopyingServer;
use pomerium_api::pb::registry::registry_server::RegistryServer;

pub use self::front::Router;
pub use self::health::{HealthTable, State};
pub use self::manage::{LogFields, Manager, Validate};
pub use self::mode::Served;
pub use self::token::Authenticated;

/// The largest message that is read, in bytes: gRPC's usual limit.
const LARGEST: usize = 4 * 1024 * 1024;

/// What the services of a databroker are made of.
pub struct Services {
    /// The records.
    pub served: Served,
    /// How the parts of this process are.
    pub health: Arc<dyn HealthTable>,
    /// Whether a route, policy or settings may be kept.
    pub validate: Validate,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The shared secret; without one nobody is let in.
    pub shared: Option<[u8; 32]>,
    /// The version of this program.
    pub version: String,
    /// What its logs may hold.
    pub log_fields: LogFields,
}

/// Every service of a databroker. A process that has other services to offer adds them with [`Router::with`].
pub fn router(services: Services) -> Router {
    let Services {
        served,
        health,
        validate,
        clock,
        shared,
        version,
        log_fields,
    } = services;
    let manager = Manager::new(
        served.clone(),
        validate,
        Arc::clone(&clock),
        shared,
        (version.clone(), log_fields),
    );
    let records = records::Records::new(served.clone());
    let writes = writes::Writes::new(served.clone());
    let registry = registry::Registry::new(served.clone());
    let copying = copying::Copying::new(served.clone());
    let checkpoint = checkpoint::Checkpoints::new(served);
    Router::new(Authenticated::new(shared, clock), &version, health)
        .with(DataBrokerServiceServer::new(records).max_decoding_message_size(LARGEST))
        .with(CheckpointServiceServer::new(checkpoint))
        .with(RegistryServer::new(registry))
        .with_hidden(CopyingServer::new(copying))
        .with_hidden(ConditionalWritesServer::new(writes).max_decoding_message_size(LARGEST))
        .manage(manager)
}
