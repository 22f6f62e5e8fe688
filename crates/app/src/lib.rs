//! The server program: composition of the services, lifecycle, telemetry, the demo.
//!
//! Start at [`server`]: it builds everything from a configuration and runs it. The command line is in
//! [`cli`]. Nothing here judges or forwards; that is the work of the rooms below.

pub mod accept;
pub mod admin;
pub mod audit;
pub mod cli;
pub mod commands;
pub mod demo;
pub mod handover;
pub mod health;
pub mod server;
pub mod telemetry;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
