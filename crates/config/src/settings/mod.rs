//! What the program runs on: resolved, validated, without options left to interpret.
//!
//! Every consumer reads these types and nothing else; how a value came to be (file, environment,
//! default, a `*_file` key) is `spec`'s business. One file per section.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

mod audit;
mod decision;
mod edge;
mod identity;
mod observe;
pub(crate) mod resolve;
pub use resolve::{LogFieldNames, default_data_dir, log_field_names};
mod route_id;
mod routes;
mod secret;
mod services;
mod store_place;
mod upstreams;

pub use audit::*;
pub use decision::*;
pub use edge::*;
pub use identity::*;
pub use observe::*;
pub use route_id::RouteId;
pub use routes::*;
pub use secret::Secret;
pub use services::*;
pub use store_place::StorePlaceError;
pub use upstreams::*;

/// Everything the process needs to know, for one version of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which services this process runs.
    pub services: Services,
    /// Where the file store, generated secrets and certificates live.
    pub data_dir: PathBuf,
    /// Main listener and the plain redirect listener.
    pub listener: ListenerSettings,
    /// Server certificates in order of precedence, already read: PEM chain and key.
    pub certificates: Vec<CertificatePair>,
    /// True when the generated catch-all certificate is to be appended (none configured, or `tls_derive`).
    pub fallback_certificate: bool,
    /// `tls_derive`: the domain of the internal authority derived from the shared secret.
    pub tls_derive: Option<String>,
    /// Client certificates. Routes may ask for them by `downstream_ca` even when this is absent.
    pub downstream_mtls: Option<DownstreamMtls>,
    /// Certificates by ACME.
    pub autocert: Option<AutocertSettings>,
    /// The listener that judges requests for other proxies.
    pub decision: Option<DecisionSettings>,
    /// Token bucket of every route without one of its own.
    pub rate_limit: Option<RateLimit>,
    /// How names of upstreams are looked up.
    pub dns: DnsSettings,
    /// The local end of upstream connections.
    pub upstream_bind: UpstreamBind,
    /// Extra trust roots (PEM) for own outbound TLS and upstreams without a CA of their own.
    pub extra_roots: Vec<u8>,
    /// Downstream timeouts and the default route timeout. Zero means off.
    pub timeouts: Timeouts,
    /// How requests are read and made canonical.
    pub http: HttpSettings,
    /// The keys of this installation.
    pub secrets: Secrets,
    /// The authenticate service: where it is and how it signs people in.
    pub authenticate: AuthenticateSettings,
    /// Session and helper cookies.
    pub cookie: CookieSettings,
    /// Defaults for identity headers; the routes hold the result.
    pub identity_headers: IdentityHeaderSettings,
    /// The claim that names the groups of people whom the directory does not know; empty is none.
    pub groups_claim: String,
    /// File in the MaxMind format that says where addresses are.
    pub geoip_database: Option<PathBuf>,
    /// Gets Google identity tokens; without one the metadata server of the machine is asked.
    pub google_account: Option<GoogleAccount>,
    /// Headers set on responses that belong to no route (internal paths, error pages).
    pub response_headers: Vec<(String, String)>,
    /// Logs.
    pub log: LogSettings,
    /// Metrics listener, if any.
    pub metrics: Option<MetricsSettings>,
    /// Where audit records go.
    pub audit: Vec<AuditSink>,
    /// Trace export, if any.
    pub tracing: Option<TracingSettings>,
    /// Health listener address.
    pub health_address: String,
    /// Whether sd_notify health reporting is off.
    pub systemd_disabled: bool,
    /// Where records are kept, if this process keeps them.
    pub databroker: DatabrokerSettings,
    /// Keys of records at rest: the first one seals, each of them opens.
    pub at_rest: Vec<Secret>,
    /// How this process and those of other services reach each other.
    pub internal: InternalSettings,
    /// Colours, logo and texts of pages.
    pub branding: Branding,
    /// Feature switches.
    pub runtime_flags: RuntimeFlags,
    /// An opaque name of the installation for metrics.
    pub installation_id: String,
    /// Routes in order of evaluation: `policy` first, then `routes`.
    pub routes: Vec<Arc<RouteSettings>>,
    /// Every file whose content went into these settings; all of them are watched.
    pub watched_files: Vec<PathBuf>,
}

/// The listeners for people.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// `host:port`, port always there; an empty host means every address, v4 and v6.
    pub address: String,
    /// Plain HTTP instead of TLS on `address`.
    pub insecure: bool,
    /// Which HTTP versions are offered.
    pub codec: Codec,
    /// Every connection must begin with a PROXY protocol header (`use_proxy_protocol`).
    pub proxy_protocol: bool,
    /// The plain listener that redirects to https.
    pub redirect_address: Option<String>,
    /// The port that clients are told for HTTP/3; `None` is the one listened on (`http3_advertise_port`).
    pub http3_port: Option<u16>,
}

/// HTTP versions of the main listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// HTTP/1.1 and HTTP/2 by ALPN.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// As `Auto`, and HTTP/3 on UDP.
    Http3,
}

/// A certificate chain with its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// Where it was given, for messages: a key name or a path.
    pub origin: String,
    /// It comes from a record of the databroker: where it cannot be used it is left out, and stops nothing.
    pub of_record: bool,
    /// PEM chain, leaf first.
    pub chain: Vec<u8>,
    /// PEM key.
    pub key: Secret,
}

/// Timeouts; `None` means off.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// First byte of a request until it is received whole (or the response has begun).
    pub read: Option<Duration>,
    /// Longest life of a request with its response.
    pub write: Option<Duration>,
    /// A downstream connection without requests.
    pub idle: Option<Duration>,
}

/// What is done with a header whose name holds an underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnderscoreAction {
    /// Forwarded as it is.
    Allow,
    /// The request is refused with 400.
    #[default]
    Reject,
    /// The header is dropped.
    Drop,
}

/// What is done with `%2F` and `%5C` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashAction {
    /// Left alone.
    Keep,
    /// The request is refused with 400.
    #[default]
    Reject,
    /// 307 to the unescaped path.
    UnescapeAndRedirect,
    /// Unescaped, then judged and forwarded.
    UnescapeAndForward,
}

/// How requests are read and made canonical.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `headers_with_underscores_action`.
    pub underscores: UnderscoreAction,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `normalize_path`.
    pub normalize_path: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashAction,
    /// `skip_xff_append`.
    pub skip_xff_append: bool,
    /// `xff_num_trusted_hops`.
    pub xff_trusted_hops: u32,
    /// Peers whose forwarded headers are believed (`trusted_proxies`).
    pub trusted_proxies: Vec<IpNet>,
}

/// The keys of this installation.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Decoded `shared_secret`, always 32 bytes.
    pub shared: Secret,
    /// Decoded `cookie_secret`, always 32 bytes.
    pub cookie: Secret,
    /// PEM of `signing_key`; derived from the shared secret when absent.
    pub signing_key: Option<Secret>,
}

/// Where records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabrokerSettings {
    /// Gone with the process.
    Memory,
    /// The embedded store, in this folder.
    File(PathBuf),
    /// A PostgreSQL database: its connection string.
    Postgres(Secret),
}

/// How the generated pages look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branding {
    /// Accent colour, `#rrggbb`.
    pub primary_color: Option<String>,
    /// Second colour, `#rrggbb`.
    pub secondary_color: Option<String>,
    /// Accent colour in the dark.
    pub darkmode_primary_color: Option<String>,
    /// Second colour in the dark.
    pub darkmode_secondary_color: Option<String>,
    /// Logo.
    pub logo_url: Option<String>,
    /// Favicon.
    pub favicon_url: Option<String>,
    /// First paragraph of error pages.
    pub error_message_first_paragraph: Option<String>,
}

/// Feature switches (spec config.md 11); the ones that something reads today.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a list of independent switches")]
pub struct RuntimeFlags {
    /// Host and installation id labels on metrics.
    pub add_extra_metrics_labels: bool,
    /// Sign-out accepts any `pomerium_redirect_uri`.
    pub allow_any_sign_out_redirect_uri: bool,
    /// Watch the config file and the files it names.
    pub config_hot_reload: bool,
    /// A `from` without port matches any port.
    pub match_any_incoming_port: bool,
    /// `/.pomerium/jwt`.
    pub pomerium_jwt_endpoint: bool,
    /// The routes portal.
    pub routes_portal: bool,
    /// Refresh also when the ID token expires.
    pub refresh_session_at_id_token_expiration: bool,
}
