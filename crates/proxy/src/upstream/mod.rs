//! Upstreams: who they are ([`endpoint`]), how they are dialled ([`connect`]), and the connections of
//! one worker to them ([`pool`]).
//!
//! Every worker has its own [`Pools`]; nothing here is shared between workers, so that a lock is never
//! contended. A request is sent on one destination; another is tried only when it is certain that the
//! first did not see it.

pub mod cluster;
pub mod connect;
pub mod dns;
pub mod endpoint;
pub mod error;
mod h2pool;
pub mod pool;
mod shape;
mod tls;

pub use cluster::Cluster;
pub use endpoint::Endpoint;
pub use error::UpstreamError;
pub use pool::{Lease, Pools};
pub(crate) use tls::Roots;
pub use tls::TlsError;
#[cfg(test)]
pub(crate) use tls::unverified_client_config;
