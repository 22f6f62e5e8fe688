//! Active health checks: probes that decide whether a host is used (spec proxy.md 6.5).
//!
//! [`machine`] decides (pure); [`keeper`] is the background work of a cluster, `probe` one probe, [`watch`]
//! what is remembered of a host. Start at [`keeper`]. What requests themselves tell is `outlier`'s.

mod keeper;
mod machine;
mod matcher;
mod metrics;
mod probe;
mod watch;

pub use keeper::{below, start};
pub use machine::{Below, Finding, Machine, Step};
pub use metrics::HealthMetrics;
pub use watch::Watch;
