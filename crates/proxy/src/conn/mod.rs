//! One downstream connection: reading from the socket, HTTP/1.1 or HTTP/2, its clock and its end. HTTP/3
//! has a module of its own, [`http3`].
//!
//! Start at [`serve_socket`]. What a request means is `flow`'s business.

mod decision;
mod driver;
mod frames;
mod handshake;
pub(crate) mod http3;
mod io;
mod serve;
mod service;
mod state;
mod streams;

pub(crate) use serve::serve_socket;
pub(crate) use state::{ConnState, Guard};

use pomerium_web::canonical::Connection;
use std::sync::Arc;

use crate::client_tls::ClientTls;
use crate::worker::Worker;

/// What a request knows about the connection it came over.
#[derive(Clone)]
pub(crate) struct Conn {
    pub(crate) info: Connection,
    pub(crate) state: Arc<ConnState>,
    pub(crate) worker: Arc<Worker>,
    /// Its client certificate; absent where the handshake asked for none.
    pub(crate) client: Option<Arc<ClientTls>>,
}
