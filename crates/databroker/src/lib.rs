//! The databroker: versioned records, a change log, and streams that follow it.
//!
//! [`Server`] is the databroker; it runs over any [`Store`]: [`MemoryStore`] forgets at exit, [`FileStore`]
//! keeps records in sealed files of one folder, [`PostgresStore`] in a database that several databrokers share. What a write
//! means is said once, in `apply`, for all stores; `damage` knows which records cannot be read. [`grpc`] is the databroker for clients in other processes.
//! [`cluster`] is one of several where one leads, [`backup`] writes and reads backup files.
//! What must not be here: what records mean (sessions, users).
//!
//! Start at [`Server`], then [`store`].

mod apply;
pub mod backup;
pub mod cluster;
#[cfg(test)]
mod conformance;
mod copy;
mod damage;
pub mod file;
pub mod grpc;
mod limits;
mod lookup;
mod memory;
#[cfg(test)]
mod model;
pub mod postgres;
mod query;
mod registry;
mod seal;
mod server;
pub mod store;
mod stream;
mod told;

pub use file::{FileStore, OpenError};
pub use memory::MemoryStore;
pub use postgres::PostgresStore;
pub use server::{RETENTION, Server};
pub use store::Store;

/// What the key of sealed values at rest is derived for, from the shared secret.
pub const AT_REST: &str = "databroker-at-rest";
