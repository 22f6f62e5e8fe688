//! The access log: which fields ([`plan`]), how a line is made ([`line`]), where it goes ([`sink`]).
//!
//! A worker never waits for the log: lines go into a shared buffer that one thread writes out; when the
//! buffer is full, lines are dropped and counted.

pub mod line;
pub mod plan;
pub mod sink;

pub use plan::LogPlan;
pub use sink::LogSink;
