//! The databroker for clients in other processes: the gRPC services of spec databroker.md 2.1 over any
//! [`Databroker`]. Who may call is not decided here: see [`Authenticated`], which stands before every service.

mod records;
#[cfg(test)]
mod tests;
mod token;
mod writes;

use std::sync::Arc;

use pomerium_api::databroker::Databroker;
use pomerium_api::pb::databroker::data_broker_service_server::DataBrokerServiceServer;
use pomerium_api::pb::pomerium::internal::conditional_writes_server::ConditionalWritesServer;
use tonic::service::interceptor::InterceptedService;

pub use self::records::Records;
pub use self::token::Authenticated;
pub use self::writes::Writes;

/// The largest message that is read, in bytes: gRPC's usual limit.
const LARGEST: usize = 4 * 1024 * 1024;

/// The service of records, for callers who know the shared secret.
pub fn records(
    broker: Arc<dyn Databroker>,
    authenticated: Authenticated,
) -> InterceptedService<DataBrokerServiceServer<Records>, Authenticated> {
    let service = DataBrokerServiceServer::new(Records::new(broker)).max_decoding_message_size(LARGEST);
    InterceptedService::new(service, authenticated)
}

/// The service of conditional writes, for the same callers.
pub fn writes(
    broker: Arc<dyn Databroker>,
    authenticated: Authenticated,
) -> InterceptedService<ConditionalWritesServer<Writes>, Authenticated> {
    let service = ConditionalWritesServer::new(Writes::new(broker)).max_decoding_message_size(LARGEST);
    InterceptedService::new(service, authenticated)
}
