//! How an upstream of several addresses is used: balance, health, limits, names (spec proxy.md 6.3 to 6.8).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderName;

/// How the endpoints of a route are used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Balance {
    /// How an endpoint is chosen.
    pub policy: LoadBalancing,
    /// Percentage of healthy endpoints below which health is ignored, 0 to 100.
    pub panic_threshold: PanicThreshold,
    /// Active health checks; an endpoint is healthy when all of them say so.
    pub health_checks: Vec<HealthCheck>,
    /// Passive health checks; `None` is off.
    pub outlier_detection: Option<OutlierDetection>,
    /// Limits, the same for every process of the route's cluster: global ones with the route's own over them.
    pub breakers: CircuitBreakers,
}

/// `load_balancing_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub enum LoadBalancing {
    #[default]
    RoundRobin,
    LeastRequest,
    RingHash,
    Maglev,
    Random,
}

/// `healthy_panic_threshold`, percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PanicThreshold(pub u8);

impl Default for PanicThreshold {
    fn default() -> Self {
        Self(50)
    }
}

/// One active health check (spec proxy.md 6.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Time limit of one probe.
    pub timeout: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Most that is waited, at random, before the first probe.
    pub initial_jitter: Duration,
    /// Most that is added, at random, to each interval.
    pub interval_jitter: Duration,
    /// The same as a percentage of the interval.
    pub interval_jitter_percent: u32,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy again.
    pub healthy_threshold: u32,
    /// Port of the probes, when it is another.
    pub alt_port: Option<u16>,
    /// Whether probes use one connection.
    pub reuse_connection: bool,
    /// Interval while the route has no traffic.
    pub no_traffic_interval: Duration,
    /// Interval while it has none and the endpoint is healthy.
    pub no_traffic_healthy_interval: Option<Duration>,
    /// Interval while the endpoint is unhealthy.
    pub unhealthy_interval: Option<Duration>,
    /// Interval right after it became unhealthy.
    pub unhealthy_edge_interval: Option<Duration>,
    /// Interval right after it became healthy.
    pub healthy_edge_interval: Option<Duration>,
    /// Log every failed probe, not only changes.
    pub log_failures: bool,
    /// Log every good probe.
    pub log_successes: bool,
    /// What is sent and expected.
    pub probe: Probe,
}

/// What a health check sends and expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP request.
    Http(HttpProbe),
    /// A TCP connection, with bytes to send and to find in the answer, in order.
    Tcp {
        /// Sent after connecting; empty sends nothing.
        send: Vec<u8>,
        /// Each must be found, one after the other.
        receive: Vec<Vec<u8>>,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Service asked about; empty is the whole server.
        service_name: String,
        /// `:authority`; the cluster name when empty.
        authority: String,
    },
}

/// `http_health_check`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpProbe {
    /// Host header; the cluster name when empty.
    pub host: String,
    /// Path with query.
    pub path: String,
    /// Body of the request; empty sends GET without one.
    pub send: Vec<u8>,
    /// Texts to find in the body, in order.
    pub receive: Vec<Vec<u8>>,
    /// Most that is read of the body for `receive`, in bytes; 0 is the default of 1024.
    pub response_buffer_size: u64,
    /// Headers left out of the probe.
    pub remove_headers: Vec<HeaderName>,
    /// Good statuses, half-open ranges; empty is 200 only.
    pub expected: Vec<(u16, u16)>,
    /// Statuses that count towards the threshold instead of failing at once, half-open ranges.
    pub retriable: Vec<(u16, u16)>,
    /// HTTP/2 instead of HTTP/1.1.
    pub http2: bool,
}

/// Passive health checks (spec proxy.md 6.6). Percentages are 0 to 100.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the options of the file")]
pub struct OutlierDetection {
    pub consecutive_5xx: u32,
    pub interval: Duration,
    pub base_ejection_time: Duration,
    pub max_ejection_percent: u32,
    pub enforcing_consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub enforcing_consecutive_gateway_failure: u32,
    pub enforcing_success_rate: u32,
    pub success_rate_minimum_hosts: u32,
    pub success_rate_request_volume: u32,
    /// Thousandths of a standard deviation.
    pub success_rate_stdev_factor: u32,
    pub split_external_local_origin_errors: bool,
    pub consecutive_local_origin_failure: u32,
    pub enforcing_consecutive_local_origin_failure: u32,
    pub enforcing_local_origin_success_rate: u32,
    pub failure_percentage_threshold: u32,
    pub enforcing_failure_percentage: u32,
    pub enforcing_failure_percentage_local_origin: u32,
    pub failure_percentage_minimum_hosts: u32,
    pub failure_percentage_request_volume: u32,
    pub max_ejection_time: Duration,
    pub max_ejection_time_jitter: Duration,
    pub successful_active_health_check_uneject_host: bool,
    pub always_eject_one_host: bool,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            enforcing_consecutive_5xx: 100,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: 0,
            enforcing_success_rate: 100,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: 5,
            enforcing_consecutive_local_origin_failure: 100,
            enforcing_local_origin_success_rate: 100,
            failure_percentage_threshold: 85,
            enforcing_failure_percentage: 0,
            enforcing_failure_percentage_local_origin: 0,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            successful_active_health_check_uneject_host: true,
            always_eject_one_host: false,
        }
    }
}

/// `circuit_breaker_thresholds` (spec proxy.md 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CircuitBreakers {
    /// Connections to the cluster.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Second attempts in flight.
    pub max_retries: u32,
}

impl Default for CircuitBreakers {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
        }
    }
}

/// How names of upstreams are looked up (spec proxy.md 6.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsSettings {
    /// Address families.
    pub family: DnsFamily,
    /// How long an answer serves when it carries no TTL.
    pub refresh_rate: Duration,
    /// When a failed lookup is tried again; `refresh_rate` when absent.
    pub failure_refresh_rate: Option<Duration>,
    /// Time limit of one query.
    pub query_timeout: Option<Duration>,
    /// Attempts per server.
    pub query_tries: Option<u32>,
    /// Queries per UDP socket before another is opened.
    pub udp_max_queries: u32,
    /// Ask over TCP.
    pub use_tcp: bool,
    /// Name servers; the system's when empty.
    pub servers: Vec<DnsServer>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            family: DnsFamily::default(),
            refresh_rate: Duration::from_secs(5),
            failure_refresh_rate: None,
            query_timeout: None,
            query_tries: None,
            udp_max_queries: 100,
            use_tcp: false,
            servers: Vec::new(),
        }
    }
}

/// A name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DnsServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Only over TCP.
    pub tcp: bool,
}

/// `dns_lookup_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DnsFamily {
    /// IPv6; IPv4 when there is none.
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4; IPv6 when there is none.
    #[default]
    V4Preferred,
    /// Both.
    All,
}

/// The local end of upstream connections (spec proxy.md 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct UpstreamBind {
    /// Source address.
    pub source: Option<IpAddr>,
    /// Allow an address that no interface has (yet).
    pub freebind: bool,
}
