//! The databroker for clients in other processes: the gRPC services of spec databroker.md 2.1 over what is
//! [`Served`]. Who may call is not decided here: see [`Authenticated`], which stands before every service.

mod checkpoint;
mod mode;
mod records;
#[cfg(test)]
mod standby_tests;
#[cfg(test)]
mod tests;
mod token;
mod writes;

use pomerium_api::pb::databroker::checkpoint_service_server::CheckpointServiceServer;
use pomerium_api::pb::databroker::data_broker_service_server::DataBrokerServiceServer;
use pomerium_api::pb::pomerium::internal::conditional_writes_server::ConditionalWritesServer;
use tonic::service::interceptor::InterceptedService;

pub use self::checkpoint::Checkpoints;
pub use self::mode::Served;
pub use self::records::Records;
pub use self::token::Authenticated;
pub use self::writes::Writes;

/// The largest message that is read, in bytes: gRPC's usual limit.
const LARGEST: usize = 4 * 1024 * 1024;

/// The service of records, for callers who know the shared secret.
pub fn records(
    served: impl Into<Served>,
    authenticated: Authenticated,
) -> InterceptedService<DataBrokerServiceServer<Records>, Authenticated> {
    let service =
        DataBrokerServiceServer::new(Records::new(served.into())).max_decoding_message_size(LARGEST);
    InterceptedService::new(service, authenticated)
}

/// The service of conditional writes, for the same callers.
pub fn writes(
    served: impl Into<Served>,
    authenticated: Authenticated,
) -> InterceptedService<ConditionalWritesServer<Writes>, Authenticated> {
    let service = ConditionalWritesServer::new(Writes::new(served.into())).max_decoding_message_size(LARGEST);
    InterceptedService::new(service, authenticated)
}

/// The service that tells how far a databroker has come, for the same callers.
pub fn checkpoints(
    served: impl Into<Served>,
    authenticated: Authenticated,
) -> InterceptedService<CheckpointServiceServer<Checkpoints>, Authenticated> {
    let service =
        CheckpointServiceServer::new(Checkpoints::new(served.into())).max_decoding_message_size(LARGEST);
    InterceptedService::new(service, authenticated)
}
