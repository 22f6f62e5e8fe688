//! Which fields a line has, decided once per configuration.

use http::HeaderName;
use pomerium_config::settings::{AccessField, LogLevel, LogSettings};

/// The fields of a line in order, and the levels that are written.
#[derive(Debug, Clone)]
pub struct LogPlan {
    pub(super) fields: Vec<Field>,
    /// Header names that are to be kept from the request for `headers.<Name>`.
    pub(crate) headers: Vec<HeaderName>,
    level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    UpstreamCluster,
    Method,
    Authority,
    Path,
    UserAgent,
    Referer,
    ForwardedFor,
    RequestId,
    Duration,
    Size,
    ResponseCode,
    ResponseCodeDetails,
    ClusterStatName,
    Ip,
    Query,
    ClientCertificate,
    /// All `headers.<Name>` together, where the first of them stands.
    Headers,
}

impl LogPlan {
    /// Reads the settings.
    pub fn new(settings: &LogSettings) -> Self {
        let mut plan = Self {
            fields: Vec::new(),
            headers: Vec::new(),
            level: settings.proxy_level,
        };
        for field in &settings.access_fields {
            if let Some(field) = plan.field(field) {
                plan.fields.push(field);
            }
        }
        plan
    }

    /// Whether a line of this level is written; level `Info`, or `Debug` for health paths
    /// (proxy.md 9.1).
    pub fn writes(&self, health: bool) -> bool {
        self.level <= if health { LogLevel::Debug } else { LogLevel::Info }
    }

    fn field(&mut self, field: &AccessField) -> Option<Field> {
        Some(match field {
            AccessField::UpstreamCluster => Field::UpstreamCluster,
            AccessField::Method => Field::Method,
            AccessField::Authority => Field::Authority,
            AccessField::Path => Field::Path,
            AccessField::UserAgent => Field::UserAgent,
            AccessField::Referer => Field::Referer,
            AccessField::ForwardedFor => Field::ForwardedFor,
            AccessField::RequestId => Field::RequestId,
            AccessField::Duration => Field::Duration,
            AccessField::Size => Field::Size,
            AccessField::ResponseCode => Field::ResponseCode,
            AccessField::ResponseCodeDetails => Field::ResponseCodeDetails,
            AccessField::ClusterStatName => Field::ClusterStatName,
            AccessField::Ip => Field::Ip,
            AccessField::Query => Field::Query,
            AccessField::ClientCertificate => Field::ClientCertificate,
            AccessField::Header(name) => {
                let first = self.headers.is_empty();
                self.headers.extend(HeaderName::from_bytes(name.as_bytes()));
                return (first && !self.headers.is_empty()).then_some(Field::Headers);
            }
        })
    }
}
