//! The options at the top level of a file (spec config.md 8).

mod listen;
mod rest;
mod services;
mod traffic;

use super::Key;
pub use services::MTLS;

/// All sections.
pub(in crate::spec::keys) const SECTIONS: &[&[Key]] = &[
    listen::ROUTES,
    listen::PROCESS,
    listen::LOGS,
    listen::SECRETS,
    listen::CERTIFICATES,
    listen::AUTOCERT,
    services::SERVICE_URLS,
    services::DATABROKER,
    services::IDENTITY,
    services::COOKIES,
    services::DOWNSTREAM,
    traffic::HTTP,
    traffic::DNS,
    traffic::METRICS,
    traffic::OTEL,
    rest::SSH,
    rest::MISC,
    rest::ENVOY,
];
