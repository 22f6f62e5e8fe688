//! Outlier detection: hosts that fail real requests are taken out for a while (spec proxy.md 6.6).
//!
//! [`monitor`] counts on the request path, [`detector`] decides (pure), [`rates`] judges the rates of an
//! interval, [`outliers`] carries out.

mod detector;
mod monitor;
mod outliers;
mod rates;
#[cfg(test)]
mod tests;

pub use detector::{Change, Detector, HostId};
pub use monitor::{Cause, Monitor, Seen};
pub use outliers::Outliers;
