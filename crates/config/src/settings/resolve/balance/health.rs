//! `health_checks` (spec proxy.md 6.5): what is probed, how often, and what counts as good.

use std::time::Duration;

use http::HeaderName;

use super::super::Cx;
use super::message::{Message, expected, text};
use super::range::statuses;
use crate::diagnostic::Stage;
use crate::settings::{HealthCheck, HttpProbe, Probe};
use crate::spec::base64_std;
use crate::spec::node::{Node, Value};
use crate::spec::values::Values;

const NAME: &str = "health_checks";
const NO_TRAFFIC: Duration = Duration::from_secs(60);
const PROBES: [&str; 3] = ["http_health_check", "tcp_health_check", "grpc_health_check"];
const PAYLOAD: &str = "write {text: <hex digits>} or {binary: <base64>}";
const RANGE: &str = "write {start: 200, end: 300}; the end is not part of the range";

pub(super) fn resolve(route: &Values, cx: &mut Cx<'_>) -> Vec<HealthCheck> {
    let Some(node) = route.free(NAME) else {
        return Vec::new();
    };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Map(_) => std::slice::from_ref(node),
        _ => {
            let message = expected("a list of health checks", node);
            cx.sink.error(node.place, route.key(NAME), message, "");
            return Vec::new();
        }
    };
    cx.shared_sink(|sink| {
        let mut checks = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", route.key(NAME));
            if let Some(message) = Message::new(item, path, sink) {
                checks.extend(one(&message));
                message.finish();
            }
        }
        checks
    })
}

fn one(message: &Message<'_>) -> Option<HealthCheck> {
    let timeout = positive(message, "timeout");
    let interval = positive(message, "interval");
    let unhealthy_threshold = required(
        message,
        "unhealthy_threshold",
        message.number("unhealthy_threshold", u32::MAX),
    );
    let healthy_threshold = required(
        message,
        "healthy_threshold",
        message.number("healthy_threshold", u32::MAX),
    );
    let probe = probe(message);
    if message.field("transport_socket_match_criteria").is_some() {
        let why = "choosing TLS settings for probes is not built";
        let help = "remove it; probes use the TLS settings of the route";
        message.refuse("transport_socket_match_criteria", why, help);
    }
    let optional = Optional::read(message);
    Some(HealthCheck {
        timeout: timeout?,
        interval: interval?,
        initial_jitter: optional.initial_jitter,
        interval_jitter: optional.interval_jitter,
        interval_jitter_percent: optional.interval_jitter_percent,
        unhealthy_threshold: unhealthy_threshold?,
        healthy_threshold: healthy_threshold?,
        alt_port: optional.alt_port,
        reuse_connection: optional.reuse_connection,
        no_traffic_interval: optional.no_traffic_interval,
        no_traffic_healthy_interval: optional.no_traffic_healthy_interval,
        unhealthy_interval: optional.unhealthy_interval,
        unhealthy_edge_interval: optional.unhealthy_edge_interval,
        healthy_edge_interval: optional.healthy_edge_interval,
        log_failures: optional.log_failures,
        log_successes: optional.log_successes,
        probe: probe?,
    })
}

/// The fields that need not be set.
struct Optional {
    initial_jitter: Duration,
    interval_jitter: Duration,
    interval_jitter_percent: u32,
    alt_port: Option<u16>,
    reuse_connection: bool,
    no_traffic_interval: Duration,
    no_traffic_healthy_interval: Option<Duration>,
    unhealthy_interval: Option<Duration>,
    unhealthy_edge_interval: Option<Duration>,
    healthy_edge_interval: Option<Duration>,
    log_failures: bool,
    log_successes: bool,
}

impl Optional {
    fn read(message: &Message<'_>) -> Self {
        let interval = |name| message.field(name).and_then(|_| positive(message, name));
        Self {
            initial_jitter: message.duration("initial_jitter").unwrap_or_default(),
            interval_jitter: message.duration("interval_jitter").unwrap_or_default(),
            interval_jitter_percent: message.number("interval_jitter_percent", u32::MAX).unwrap_or(0),
            alt_port: message
                .number("alt_port", u32::from(u16::MAX))
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0),
            reuse_connection: message.switch("reuse_connection").unwrap_or(true),
            no_traffic_interval: interval("no_traffic_interval").unwrap_or(NO_TRAFFIC),
            no_traffic_healthy_interval: interval("no_traffic_healthy_interval"),
            unhealthy_interval: interval("unhealthy_interval"),
            unhealthy_edge_interval: interval("unhealthy_edge_interval"),
            healthy_edge_interval: interval("healthy_edge_interval"),
            log_failures: message
                .switch("always_log_health_check_failures")
                .unwrap_or(false),
            log_successes: message.switch("always_log_health_check_success").unwrap_or(false),
        }
    }
}

/// Exactly one of the kinds.
fn probe(message: &Message<'_>) -> Option<Probe> {
    let given: Vec<_> = PROBES
        .into_iter()
        .filter(|name| message.field(name).is_some())
        .collect();
    if message.field("custom_health_check").is_some() {
        let help = "use http_health_check, tcp_health_check or grpc_health_check";
        message.error("custom_health_check", Stage::Load, "no such kind of probe", help);
        return None;
    }
    match given.as_slice() {
        [name] => {
            let inner = message.message(name)?;
            let probe = match *name {
                "http_health_check" => http(&inner).map(Probe::Http),
                "tcp_health_check" => Some(tcp(&inner)),
                _ => Some(Probe::Grpc {
                    service_name: inner.text("service_name"),
                    authority: inner.text("authority"),
                }),
            };
            inner.finish();
            probe
        }
        [] => {
            let why = "a health check needs a probe";
            message.error(
                "http_health_check",
                Stage::DataPlane,
                why,
                &format!("set one of {}", PROBES.join(", ")),
            );
            None
        }
        [_, second, ..] => {
            message.error(
                second,
                Stage::Load,
                "a health check has one probe only",
                "write a second check",
            );
            None
        }
    }
}

fn http(message: &Message<'_>) -> Option<HttpProbe> {
    let path = message.text("path");
    let mistyped = path.is_empty() && message.field("path").is_some_and(|node| text(node).is_err());
    if !path.starts_with('/') && !mistyped {
        let help = "write the path that is asked for, for instance `path: /healthz`";
        message.error(
            "path",
            Stage::DataPlane,
            "a path that begins with / is needed",
            help,
        );
    }
    let probe = HttpProbe {
        host: message.text("host"),
        path,
        send: message.field("send").map(|_| single(message)).unwrap_or_default(),
        receive: message.list("receive", PAYLOAD, payload),
        response_buffer_size: u64::from(message.number("response_buffer_size", u32::MAX).unwrap_or(0)),
        remove_headers: message.list("request_headers_to_remove", "write header names", |node| {
            let name = text(node)?;
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("\"{name}\" is no header name"))
        }),
        expected: message.list("expected_statuses", RANGE, statuses),
        retriable: message.list("retriable_statuses", RANGE, statuses),
        http2: codec(message),
    };
    Some(probe)
}

fn codec(message: &Message<'_>) -> bool {
    let name = "codec_client_type";
    match message.text(name).to_uppercase().as_str() {
        "" | "HTTP1" => false,
        "HTTP2" => true,
        "HTTP3" => {
            message.refuse(name, "probes over HTTP/3 are not built", "use HTTP1 or HTTP2");
            false
        }
        other => {
            let why = format!("unsupported enum value {other}");
            message.error(name, Stage::Load, why, "one of HTTP1, HTTP2");
            false
        }
    }
}

fn tcp(message: &Message<'_>) -> Probe {
    Probe::Tcp {
        send: single(message),
        receive: message.list("receive", PAYLOAD, payload),
    }
}

/// `send`: one payload.
fn single(message: &Message<'_>) -> Vec<u8> {
    let Some(node) = message.field("send") else {
        return Vec::new();
    };
    payload(node).unwrap_or_else(|problem| {
        message.error("send", Stage::Load, problem, PAYLOAD);
        Vec::new()
    })
}

/// `{text: hex}` or `{binary: base64}`.
fn payload(node: &Node) -> Result<Vec<u8>, String> {
    match (node.get("text"), node.get("binary")) {
        (Some(hex), None) => {
            from_hex(&text(hex)?).ok_or_else(|| "`text` must be hex digits, two a byte".into())
        }
        (None, Some(base64)) => base64_std(&text(base64)?).map_err(|error| format!("`binary`: {error}")),
        _ => Err(expected("either `text` or `binary`", node)),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A duration that must be set and more than zero.
fn positive(message: &Message<'_>, name: &'static str) -> Option<Duration> {
    let given = message.duration(name);
    if given.is_some_and(|time| time.is_zero()) {
        message.error(
            name,
            Stage::DataPlane,
            "must be more than zero",
            "write for instance 5s",
        );
        return None;
    }
    required(message, name, given)
}

/// Reports a field that is missing.
fn required<T>(message: &Message<'_>, name: &'static str, given: Option<T>) -> Option<T> {
    if given.is_none() && message.field(name).is_none() {
        let why = format!("`{name}` is missing");
        let help = "a health check needs timeout, interval, unhealthy_threshold and healthy_threshold";
        message.error(name, Stage::DataPlane, why, help);
    }
    given
}
