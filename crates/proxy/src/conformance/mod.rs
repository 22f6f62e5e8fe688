//! Runs routing cases (`tests/cases/routing.json`) against a live listener.
//!
//! The caller launches a data plane for each case from a configuration in the file's format; the driver
//! plays the client and the upstreams, and reads the access log. What an expectation names must be
//! checked: a field the driver does not know fails the case. Cases marked `unsure` are counted apart.
//! Start at [`run`].

mod case;
mod check;
mod client;
mod upstream;

use std::net::{IpAddr, SocketAddr};

use futures_util::future::BoxFuture;
use pomerium_config::settings::{Action, Settings, UpstreamScheme};
use serde_json::Value;

pub use case::LogTap;

/// What the caller launches.
pub struct Launch {
    /// The configuration file of the case, as JSON; `address` is port 0 of the loopback.
    pub config: Value,
    /// Whether a static certificate is to be configured (it decides about HSTS).
    pub static_certificate: bool,
    /// Where the upstream of each route listens; for [`redirect_upstreams`].
    pub upstreams: Vec<SocketAddr>,
    /// The address the client pretends to have ([`crate::Options::assumed_peer`]).
    pub client_ip: IpAddr,
    /// Where the access log goes.
    pub log: LogTap,
}

/// A launched data plane; it runs until this is dropped.
pub trait Running: Send {
    /// Its main listener.
    fn address(&self) -> SocketAddr;
    /// Writes out what the access log holds back.
    fn flush_log(&self);
}

/// Starts data planes.
pub trait Launcher: Send + Sync {
    /// Launches one. Errors with the reason when the configuration is refused.
    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Running>, String>>;
}

/// What came of the cases.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that hold.
    pub passed: Vec<String>,
    /// Cases that do not, with what differs.
    pub failed: Vec<(String, String)>,
    /// Cases marked `unsure` that hold.
    pub unsure_passed: Vec<String>,
    /// Cases marked `unsure` that do not, with what differs.
    pub unsure_failed: Vec<(String, String)>,
}

/// Runs every case of a parsed file. Errors when it is no file of cases.
pub async fn run(file: &Value, launcher: &dyn Launcher) -> Result<Report, String> {
    let format = file["about"]["format"].as_str().unwrap_or_default();
    if format != "pomerium routing conformance v1" {
        return Err(format!("unknown format {format:?}"));
    }
    let cases = file["cases"].as_array().ok_or("no list of cases")?;
    let mut report = Report::default();
    for case in cases {
        let name = case["name"].as_str().unwrap_or("?").to_owned();
        let result = case::run(case, launcher).await;
        let unsure = case["unsure"] == true;
        match result {
            Ok(()) if unsure => report.unsure_passed.push(name),
            Ok(()) => report.passed.push(name),
            Err(why) if unsure => report.unsure_failed.push((name, why)),
            Err(why) => report.failed.push((name, why)),
        }
    }
    Ok(report)
}

/// Points every destination at the driver's upstreams, by the name of the route. What the upstream is
/// called stays: only the socket goes elsewhere. Destinations on the loopback are left alone.
pub fn redirect_upstreams(settings: &mut Settings, upstreams: &[SocketAddr]) {
    for route in &mut settings.routes {
        let number = route
            .name
            .strip_prefix(case::ROUTE_NAME)
            .and_then(|number| number.parse::<usize>().ok());
        let Some(to) = number.and_then(|number| upstreams.get(number)) else {
            continue;
        };
        let mut changed = (**route).clone();
        if let Action::Forward(destinations) = &mut changed.action {
            for destination in destinations.iter_mut().filter(|to| !to.host.starts_with("127.")) {
                destination.host = to.ip().to_string();
                destination.port = to.port();
                destination.scheme = UpstreamScheme::Http;
            }
        }
        *route = changed.into();
    }
}
