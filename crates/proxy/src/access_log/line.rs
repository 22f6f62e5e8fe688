//! One JSON line per request, written straight into a buffer (spec proxy.md 9.1, policy.md 15.2).

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use pomerium_authorize::text::{self, is_plain};
use pomerium_certs::client::CertificateNames;

use super::plan::{Field, LogPlan};

/// What a line says; borrowed from the request that has just ended.
#[derive(Debug)]
pub struct Facts<'a> {
    /// When the line is written.
    pub time: Timestamp,
    /// `/ping` and `/healthz` are logged at debug.
    pub health: bool,
    /// Cluster, empty when nothing was forwarded.
    pub cluster: &'a str,
    /// Route name.
    pub stat_name: &'a str,
    /// Method.
    pub method: &'a str,
    /// Authority after the host rewrite.
    pub authority: &'a str,
    /// Path after the rewrite, without query.
    pub path: &'a str,
    /// Query.
    pub query: &'a str,
    /// `User-Agent`.
    pub user_agent: Option<&'a HeaderValue>,
    /// `Referer`; its query is cut off here.
    pub referer: Option<&'a HeaderValue>,
    /// `X-Forwarded-For` as sent upstream.
    pub forwarded_for: Option<&'a HeaderValue>,
    /// `X-Request-Id`.
    pub request_id: &'a str,
    /// Client address.
    pub ip: Option<IpAddr>,
    /// Start to last byte.
    pub duration: Duration,
    /// Bytes of the response body.
    pub size: u64,
    /// Status.
    pub status: u16,
    /// Response code details.
    pub details: &'a str,
    /// The client certificate that was presented.
    pub client_certificate: Option<&'a CertificateNames>,
    /// Values of the named headers, in the order of the plan.
    pub headers: &'a [Option<HeaderValue>],
}

/// Room for a line of usual length, made once instead of bit by bit.
const TYPICAL: usize = 1024;

/// Appends the line of `facts`, with its line feed.
pub fn write(out: &mut Vec<u8>, plan: &LogPlan, facts: &Facts<'_>) {
    let level = if facts.health { "debug" } else { "info" };
    out.reserve(TYPICAL);
    out.extend_from_slice(br#"{"level":""#);
    out.extend_from_slice(level.as_bytes());
    out.extend_from_slice(br#"","service":"envoy""#);
    for field in &plan.fields {
        write_field(out, plan, facts, *field);
    }
    out.extend_from_slice(br#","time":""#);
    text::time(out, facts.time);
    out.extend_from_slice(b"\",\"message\":\"http-request\"}\n");
}

fn write_field(out: &mut Vec<u8>, plan: &LogPlan, facts: &Facts<'_>, field: Field) {
    match field {
        Field::UpstreamCluster => string_field(out, ",\"upstream-cluster\":\"", facts.cluster.as_bytes()),
        Field::Method => string_field(out, ",\"method\":\"", facts.method.as_bytes()),
        Field::Authority => string_field(out, ",\"authority\":\"", facts.authority.as_bytes()),
        Field::Path => string_field(out, ",\"path\":\"", facts.path.as_bytes()),
        Field::UserAgent => string_field(out, ",\"user-agent\":\"", bytes(facts.user_agent)),
        Field::Referer => string_field(out, ",\"referer\":\"", without_query(bytes(facts.referer))),
        Field::ForwardedFor => string_field(out, ",\"forwarded-for\":\"", bytes(facts.forwarded_for)),
        Field::RequestId => string_field(out, ",\"request-id\":\"", facts.request_id.as_bytes()),
        Field::Duration => {
            // Milliseconds.
            out.extend_from_slice(br#","duration":"#);
            let duration = facts.duration;
            text::number(out, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
            out.push(b'.');
            text::six_digits(out, duration.subsec_nanos() % 1_000_000);
        }
        Field::Size => number(out, ",\"size\":", facts.size),
        Field::ResponseCode => number(out, ",\"response-code\":", facts.status.into()),
        Field::ResponseCodeDetails => {
            string_field(out, ",\"response-code-details\":\"", facts.details.as_bytes())
        }
        Field::ClusterStatName if facts.stat_name.is_empty() => {}
        Field::ClusterStatName => string_field(out, ",\"cluster-stat-name\":\"", facts.stat_name.as_bytes()),
        Field::Ip => {
            out.extend_from_slice(br#","ip":""#);
            if let Some(ip) = facts.ip {
                text::ip(out, ip);
            }
            out.push(b'"');
        }
        Field::Query => string_field(out, ",\"query\":\"", facts.query.as_bytes()),
        Field::ClientCertificate => {
            if let Some(names) = facts.client_certificate {
                client_certificate(out, names);
            }
        }
        Field::Headers => headers(out, plan, facts),
    }
}

fn client_certificate(out: &mut Vec<u8>, names: &CertificateNames) {
    out.extend_from_slice(br#","client-certificate":{"issuer":"#);
    string(out, names.issuer.as_bytes());
    out.extend_from_slice(br#","subject":"#);
    string(out, names.subject.as_bytes());
    out.extend_from_slice(br#","subjectAltName":["#);
    for (position, name) in names.alternatives.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        string(out, name.as_bytes());
    }
    out.extend_from_slice(b"]}");
}

fn headers(out: &mut Vec<u8>, plan: &LogPlan, facts: &Facts<'_>) {
    out.extend_from_slice(br#","headers":{"#);
    let mut first = true;
    for (name, value) in plan.headers.iter().zip(facts.headers) {
        let Some(value) = value else { continue };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        string(out, name.as_str().as_bytes());
        out.push(b':');
        string(out, value.as_bytes());
    }
    out.push(b'}');
}

fn bytes(value: Option<&HeaderValue>) -> &[u8] {
    value.map_or(b"", HeaderValue::as_bytes)
}

fn without_query(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b'?').next().unwrap_or(value)
}

/// `start` is everything up to the value, its quote included.
fn string_field(out: &mut Vec<u8>, start: &'static str, value: &[u8]) {
    out.extend_from_slice(start.as_bytes());
    escaped(out, value);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, start: &'static str, value: u64) {
    out.extend_from_slice(start.as_bytes());
    text::number(out, value);
}

/// A JSON string.
fn string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    escaped(out, value);
    out.push(b'"');
}

/// The inside of a JSON string. What ends lines, moves cursors or turns the reading direction is escaped; bytes
/// that are not UTF-8 become U+FFFD.
fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        out.extend_from_slice(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                _ if text::is_mark(character) => {
                    let _ = write!(out, "\\u{:04x}", u32::from(character));
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use pomerium_config::settings::{AccessField, LogLevel, LogSettings};

    use super::*;

    fn facts<'a>(headers: &'a [Option<HeaderValue>], referer: &'a HeaderValue) -> Facts<'a> {
        Facts {
            time: "2026-08-01T10:00:00Z".parse().unwrap(),
            health: false,
            cluster: "route-1",
            stat_name: "",
            method: "GET",
            authority: "up.internal:8080",
            path: "/a",
            query: "x=1",
            user_agent: None,
            referer: Some(referer),
            forwarded_for: None,
            request_id: "id",
            ip: Some("192.0.2.1".parse().unwrap()),
            duration: Duration::from_micros(1500),
            size: 12,
            status: 200,
            details: "via_upstream",
            client_certificate: None,
            headers,
        }
    }

    fn plan(fields: Vec<AccessField>, level: LogLevel) -> LogPlan {
        LogPlan::new(&LogSettings {
            level,
            proxy_level: level,
            otel_level: level,
            access_fields: fields,
            authorize_fields: Vec::new(),
        })
    }

    #[test]
    fn a_line_is_json_with_the_chosen_fields_in_order() {
        let fields = vec![
            AccessField::Size,
            AccessField::Header("X-One".into()),
            AccessField::Method,
            AccessField::Header("X-Two".into()),
            AccessField::Duration,
            AccessField::Referer,
            AccessField::ClusterStatName,
            AccessField::Ip,
        ];
        let mut out = Vec::new();
        let headers = [Some(HeaderValue::from_static("a\"b")), None];
        let referer = HeaderValue::from_bytes(b"https://x.example.com/\xff?secret=1").unwrap();
        write(
            &mut out,
            &plan(fields, LogLevel::Info),
            &facts(&headers, &referer),
        );
        let line = String::from_utf8(out).unwrap();
        assert!(line.ends_with("\n") && line.matches('\n').count() == 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            parsed,
            serde_json::json!({
                "level": "info", "service": "envoy", "size": 12, "headers": {"x-one": "a\"b"}, "method": "GET",
                "duration": 1.5, "referer": "https://x.example.com/\u{fffd}", "ip": "192.0.2.1",
                "time": "2026-08-01T10:00:00Z", "message": "http-request",
            })
        );
        assert!(line.find("size").unwrap() < line.find("method").unwrap());
    }

    #[test]
    fn control_bytes_cannot_break_the_line() {
        let mut out = Vec::new();
        string(&mut out, b"a\n\"b\\\x00\x7f");
        assert_eq!(out, br#""a\u000a\"b\\\u0000\u007f""#);
    }

    #[test]
    fn levels() {
        for (level, normal, health) in [
            (LogLevel::Debug, true, true),
            (LogLevel::Info, true, false),
            (LogLevel::Warn, false, false),
            (LogLevel::Off, false, false),
        ] {
            let plan = plan(Vec::new(), level);
            assert_eq!(
                (plan.writes(false), plan.writes(true)),
                (normal, health),
                "{level:?}"
            );
        }
    }
}
