//! What stands between clients and routes: client certificates, certificates by ACME, rate limits.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// `downstream_mtls`, read and decoded (spec proxy.md 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamMtls {
    /// Trust anchors of all hosts, PEM. `None`: only routes with a CA of their own ask for certificates.
    pub ca: Option<Vec<u8>>,
    /// Revocation lists, PEM.
    pub crl: Option<Vec<u8>>,
    /// What happens without a valid certificate.
    pub enforcement: Enforcement,
    /// One of them must match; empty accepts every name.
    pub san: Vec<SanMatch>,
    /// Certificates in the chain without the anchor; 0 is unlimited.
    pub max_verify_depth: u32,
}

/// `downstream_mtls.enforcement`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforcement {
    /// Every route denies without a valid certificate.
    #[default]
    PolicyWithDefaultDeny,
    /// Only policies that name the criterion deny.
    Policy,
    /// The handshake fails.
    RejectConnection,
}

/// One of `match_subject_alt_names`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanMatch {
    /// Which kind of name.
    pub kind: SanKind,
    /// Regular expression over the whole name, as the engine here reads it.
    pub pattern: String,
}

/// Kinds of alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SanKind {
    Dns,
    Email,
    IpAddress,
    Uri,
    /// otherName 1.3.6.1.4.1.311.20.2.3.
    UserPrincipalName,
}

/// Certificates by ACME (spec proxy.md 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutocertSettings {
    /// URL of the directory.
    pub directory: String,
    /// Account contact; may be empty.
    pub email: String,
    /// External account: key id and MAC key (decoded).
    pub eab: Option<(String, Secret)>,
    /// Ask for the must-staple extension.
    pub must_staple: bool,
    /// Where certificates and accounts are kept.
    pub storage: AutocertStorage,
    /// Roots beside the system's for talking to the CA, PEM.
    pub trusted_ca: Option<Vec<u8>>,
    /// Names to get certificates for, one each, sorted: hosts of https, tcp and udp routes and of the
    /// authenticate service. Wildcards (`*.example.com`) only with `dns`.
    pub names: Vec<String>,
    /// DNS-01; used for every name when set.
    pub dns: Option<AutocertDns>,
    /// HTTP-01 is possible: `http_redirect_addr` has port 80, or any port where `autocert_ca` names a CA of
    /// one's own, which may ask there.
    pub http_challenge: bool,
}

/// `autocert_dir` and `autocert_storage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutocertStorage {
    /// A folder.
    Folder(PathBuf),
    /// An object store URL as given: `s3://…` or `gs://…`. It may hold credentials.
    Object(Secret),
    /// Records of the databroker, shared by all who have it.
    Databroker,
}

/// `autocert_dns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutocertDns {
    /// Dynamic update (RFC 2136), signed by TSIG (RFC 8945).
    Rfc2136 {
        /// `host:port` of the primary server.
        server: String,
        /// Zone; found by asking for SOA when absent.
        zone: Option<String>,
        /// Name of the TSIG key; unsigned when absent.
        key_name: Option<String>,
        /// `hmac-sha256` (default), `hmac-sha384`, `hmac-sha512`.
        algorithm: String,
        /// The key, decoded from base64.
        secret: Option<Secret>,
        /// TTL of the record.
        ttl: Duration,
        /// How long to wait until the server shows the record.
        propagation: Duration,
    },
    /// A program: `program args… present|cleanup <fqdn> <value>`.
    Exec {
        /// Absolute path.
        program: PathBuf,
        /// Arguments before ours.
        args: Vec<String>,
        /// Time limit of one call.
        timeout: Duration,
        /// Pause after `present` before the CA is told.
        propagation: Duration,
    },
}

/// `rate_limit`: a token bucket, process-wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Requests per period.
    pub requests: u32,
    /// The period.
    pub per: Duration,
    /// Requests at once.
    pub burst: u32,
    /// What has a bucket of its own.
    pub key: RateKey,
}

/// `rate_limit.key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RateKey {
    /// Each client address (IPv6: each /64).
    #[default]
    Client,
    /// Each signed-in user; anonymous requests by client address.
    User,
    /// The route.
    Route,
}
