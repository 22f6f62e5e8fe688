//! Logs, metrics, traces.

use std::time::Duration;

use super::{CertificatePair, Secret};

/// Log settings.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Level of the program.
    pub level: LogLevel,
    /// Level of the data plane; the access log is written up to `Info`.
    pub proxy_level: LogLevel,
    /// Level of the trace exporter (`otel_log_level`).
    pub otel_level: LogLevel,
    /// Access log fields, in order; unknown names are already gone.
    pub access_fields: Vec<AccessField>,
    /// Authorize log fields, in order; unknown names are already gone.
    pub authorize_fields: Vec<AuthorizeField>,
}

/// Levels, least to most severe; `Off` silences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Off,
}

/// Fields of the access log (policy.md 15.2); each prints under the name in its comment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AccessField {
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
    ClientCertificate,
    ClusterStatName,
    Ip,
    Query,
    /// `headers.<Name>`; holds the name as written.
    Header(String),
}

/// Fields of the authorize log (policy.md 15.1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AuthorizeField {
    RequestId,
    CheckRequestId,
    Method,
    Path,
    Host,
    Query,
    Ip,
    SessionId,
    ImpersonateSessionId,
    ImpersonateUserId,
    ImpersonateEmail,
    RemovedGroupsCount,
    ServiceAccountId,
    User,
    Email,
    EnvoyRouteChecksum,
    EnvoyRouteId,
    RouteChecksum,
    RouteId,
    ClusterStatName,
    Headers,
    IdToken,
    IdTokenClaims,
    /// `headers.<Name>`; holds the name as written.
    Header(String),
}

/// The Prometheus listener.
#[derive(Debug, Clone)]
pub struct MetricsSettings {
    /// `host:port`; host empty means every address.
    pub address: String,
    /// `user:password` of `metrics_basic_auth`, decoded.
    pub basic_auth: Option<Secret>,
    /// TLS; plain when absent.
    pub tls: Option<MetricsTls>,
}

/// TLS of the metrics listener.
#[derive(Debug, Clone)]
pub struct MetricsTls {
    /// `metrics_certificate` with its key.
    pub certificate: CertificatePair,
    /// `metrics_client_ca`, PEM: clients must show a certificate from it.
    pub client_ca: Option<Vec<u8>>,
}

/// How spans leave the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    Http,
}

/// OTLP trace export.
#[derive(Debug, Clone)]
pub struct TracingSettings {
    /// Endpoint for traces, full URL.
    pub endpoint: String,
    /// Protocol.
    pub protocol: OtlpProtocol,
    /// Extra headers of each export.
    pub headers: Vec<(String, Secret)>,
    /// Timeout of an export.
    pub timeout: Duration,
    /// Share of traces that is kept, 0 to 1.
    pub sample_ratio: f64,
    /// Attributes of the resource.
    pub resource_attributes: Vec<(String, String)>,
    /// Longest attribute value, bytes.
    pub attribute_value_length_limit: u32,
    /// Batch delay.
    pub batch_delay: Duration,
    /// Batch size.
    pub batch_size: u32,
}
