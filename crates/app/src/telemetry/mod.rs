//! How operators see the program: logs, metrics, traces.

pub mod guard;
pub mod http;
pub mod log;
pub mod metrics;
pub mod otel;
pub mod spans;
