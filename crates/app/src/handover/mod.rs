//! One process takes over from another, and nobody who connects notices.
//!
//! - [`activation`]: the service manager has opened the sockets (`LISTEN_FDS`).
//! - [`successor`]: this process starts the program again (`SIGUSR2`), hands it its sockets and its store, and
//!   finishes what it has begun.
//! - [`predecessor`]: the other end of that.
//!
//! The two talk over a pair of UNIX sockets, one of which is the standard input of the new process, so that
//! nobody else can take part: first the sockets ([`passing`]), then messages ([`channel`]). The store can be
//! open in one process only, so it is handed over while the old process serves on from memory; what it has
//! still to write afterwards goes through the new one ([`relay`]).

pub mod activation;
pub mod channel;
pub mod passing;
pub mod predecessor;
pub mod relay;
pub mod successor;

use std::net::{TcpListener, UdpSocket};

use pomerium_proxy::Handed;

/// Listening sockets that were opened before this process, by what they are for.
#[derive(Debug, Default)]
pub struct Sockets {
    /// `address`.
    pub main: Vec<TcpListener>,
    /// `address`, for HTTP/3.
    pub udp: Option<UdpSocket>,
    /// `http_redirect_addr`.
    pub redirect: Vec<TcpListener>,
    /// `decision_listener`.
    pub decision: Vec<TcpListener>,
    /// `health_check_addr`.
    pub health: Vec<TcpListener>,
    /// `metrics_address`.
    pub metrics: Vec<TcpListener>,
    /// `grpc_address`.
    pub grpc: Vec<TcpListener>,
}

impl Sockets {
    /// Takes those of the data plane.
    pub fn of_data_plane(&mut self) -> Handed {
        Handed {
            main: std::mem::take(&mut self.main),
            redirect: std::mem::take(&mut self.redirect),
            decision: std::mem::take(&mut self.decision),
            udp: self.udp.take(),
        }
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// `address`.
    Main,
    /// `http_redirect_addr`.
    Redirect,
    /// `decision_listener`.
    Decision,
    /// `health_check_addr`.
    Health,
    /// `metrics_address`.
    Metrics,
    /// `grpc_address`.
    Grpc,
}

impl Sockets {
    /// The sockets for one use.
    pub fn of(&mut self, what: Use) -> &mut Vec<TcpListener> {
        match what {
            Use::Main => &mut self.main,
            Use::Redirect => &mut self.redirect,
            Use::Decision => &mut self.decision,
            Use::Health => &mut self.health,
            Use::Metrics => &mut self.metrics,
            Use::Grpc => &mut self.grpc,
        }
    }
}
