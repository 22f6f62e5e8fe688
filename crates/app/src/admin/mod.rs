//! A door for whoever administers the machine: a UNIX socket in the data folder, through which the command line asks
//! the running server for what a file cannot say. There is exactly this: list sessions, begin and end an
//! impersonation.
//!
//! The socket lies in a folder that only the owner of the process can open, and each caller is asked for their user
//! id: the owner and root get an answer, nobody else. The messages are in [`protocol`], the server's side in
//! [`server`], what it does in [`impersonation`].

pub mod client;
pub mod impersonation;
pub mod protocol;
pub mod server;

use std::path::{Path, PathBuf};

/// The folder of the socket in the data folder.
const FOLDER: &str = "admin";
const SOCKET: &str = "admin.sock";

/// Where the socket of the server with this data folder is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(SOCKET)
}
