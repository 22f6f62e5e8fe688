//! Log levels and log fields (spec config.md 8.2, 12).

use super::Cx;
use crate::settings::{AccessField, AuthorizeField, LogLevel, LogSettings};
use crate::spec::keys;
use crate::spec::values::Values;

/// Fields of the authorize log that nothing fills yet: a log that is asked for them must not look as if they were empty.
const UNFILLED: [&str; 4] = ["body", "mcp-method", "mcp-tool", "mcp-tool-parameters"];

/// Names that a log may be asked for, and those it has when it is asked for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFieldNames {
    /// Of the access log, besides `headers.<Name>`.
    pub access: Vec<&'static str>,
    /// Its default.
    pub access_default: Vec<&'static str>,
    /// Of the authorize log, besides `headers.<Name>`.
    pub authorize: Vec<&'static str>,
    /// Its default.
    pub authorize_default: Vec<&'static str>,
}

/// The names of log fields, without those that are refused.
pub fn log_field_names() -> LogFieldNames {
    fn sorted<T>(known: &[(&'static str, T)]) -> Vec<&'static str> {
        let mut names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }
    LogFieldNames {
        access: sorted(ACCESS),
        access_default: ACCESS_DEFAULT.to_vec(),
        authorize: sorted(AUTHORIZE),
        authorize_default: AUTHORIZE_DEFAULT.to_vec(),
    }
}

pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> LogSettings {
    refuse_unfilled(values, cx);
    let level = level(values, "log_level", cx).unwrap_or(LogLevel::Info);
    LogSettings {
        level,
        proxy_level: self::level(values, "proxy_log_level", cx).unwrap_or(level),
        otel_level: otel_level(values, cx).unwrap_or(level),
        access_fields: fields(
            values,
            "access_log_fields",
            ACCESS,
            &ACCESS_DEFAULT,
            AccessField::Header,
            cx,
        ),
        authorize_fields: fields(
            values,
            "authorize_log_fields",
            AUTHORIZE,
            &AUTHORIZE_DEFAULT,
            AuthorizeField::Header,
            cx,
        ),
    }
}

fn refuse_unfilled(values: &Values, cx: &mut Cx<'_>) {
    let name = "authorize_log_fields";
    let wanted = values.texts(name).iter();
    for field in wanted.filter(|field| UNFILLED.contains(&field.as_str())) {
        let why = format!(
            "the field `{field}` is read from requests to MCP servers only, and those are not built yet: it would always be empty"
        );
        let help = format!("remove `{field}` from the list");
        cx.sink.refuse(values.place(name), name, why, help);
    }
}

/// The OpenTelemetry names are those of `log_level`; another one is told, not refused, as it was never checked.
fn otel_level(values: &Values, cx: &mut Cx<'_>) -> Option<LogLevel> {
    let name = "otel_log_level";
    let given = values.text(name).to_ascii_lowercase();
    let level = parse(&given);
    if level.is_none() && !given.is_empty() {
        let message = format!("unknown log level \"{given}\": it is ignored");
        let help = "one of trace, debug, info, warn, error, off";
        cx.sink.warn(values.place(name), name, message, help);
    }
    level
}

fn level(values: &Values, name: &str, cx: &mut Cx<'_>) -> Option<LogLevel> {
    let given = values.text(name);
    let level = parse(given);
    if level.is_none() && !given.is_empty() {
        let message = format!("config: invalid {name}: unknown log level: {given}");
        let help = "one of trace, debug, info, warn, error, off, in lower case";
        cx.sink.error(values.place(name), name, message, help);
    }
    level
}

fn parse(name: &str) -> Option<LogLevel> {
    match name {
        "trace" => Some(LogLevel::Trace),
        "debug" => Some(LogLevel::Debug),
        "info" => Some(LogLevel::Info),
        "warn" | "warning" => Some(LogLevel::Warn),
        "error" | "critical" | "fatal" | "panic" => Some(LogLevel::Error),
        "off" | "none" | "disabled" => Some(LogLevel::Off),
        _ => None,
    }
}

fn fields<T: Clone>(
    values: &Values,
    name: &str,
    known: &[(&'static str, T)],
    default: &[&str],
    header: fn(String) -> T,
    cx: &mut Cx<'_>,
) -> Vec<T> {
    let find = |field: &str| {
        known
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, field)| field.clone())
    };
    if !values.is_set(name) {
        return default.iter().filter_map(|field| find(field)).collect();
    }
    let mut chosen = Vec::new();
    for field in values.texts(name) {
        if name == "authorize_log_fields" && UNFILLED.contains(&field.as_str()) {
            continue;
        }
        let named = field
            .strip_prefix("headers.")
            .filter(|name| http::HeaderName::from_bytes(name.as_bytes()).is_ok());
        let found = find(field).or_else(|| named.map(|name| header(name.to_owned())));
        if let Some(field) = found {
            chosen.push(field);
            continue;
        }
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let help = keys::nearest(&field.replace('_', "-"), &names).map_or_else(
            || format!("one of {}, headers.<Name>", names.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("invalid {name}: unknown field \"{field}\": it is ignored");
        cx.sink.warn(values.place(name), name, message, help);
    }
    chosen
}

const ACCESS: &[(&str, AccessField)] = &[
    ("upstream-cluster", AccessField::UpstreamCluster),
    ("method", AccessField::Method),
    ("authority", AccessField::Authority),
    ("path", AccessField::Path),
    ("user-agent", AccessField::UserAgent),
    ("referer", AccessField::Referer),
    ("forwarded-for", AccessField::ForwardedFor),
    ("request-id", AccessField::RequestId),
    ("duration", AccessField::Duration),
    ("size", AccessField::Size),
    ("response-code", AccessField::ResponseCode),
    ("response-code-details", AccessField::ResponseCodeDetails),
    ("client-certificate", AccessField::ClientCertificate),
    ("cluster-stat-name", AccessField::ClusterStatName),
    ("ip", AccessField::Ip),
    ("query", AccessField::Query),
];

const ACCESS_DEFAULT: [&str; 12] = [
    "upstream-cluster",
    "method",
    "authority",
    "path",
    "user-agent",
    "referer",
    "forwarded-for",
    "request-id",
    "duration",
    "size",
    "response-code",
    "response-code-details",
];

const AUTHORIZE: &[(&str, AuthorizeField)] = &[
    ("request-id", AuthorizeField::RequestId),
    ("check-request-id", AuthorizeField::CheckRequestId),
    ("method", AuthorizeField::Method),
    ("path", AuthorizeField::Path),
    ("host", AuthorizeField::Host),
    ("ip", AuthorizeField::Ip),
    ("session-id", AuthorizeField::SessionId),
    ("impersonate-session-id", AuthorizeField::ImpersonateSessionId),
    ("impersonate-user-id", AuthorizeField::ImpersonateUserId),
    ("impersonate-email", AuthorizeField::ImpersonateEmail),
    ("removed-groups-count", AuthorizeField::RemovedGroupsCount),
    ("service-account-id", AuthorizeField::ServiceAccountId),
    ("user", AuthorizeField::User),
    ("email", AuthorizeField::Email),
    ("envoy-route-checksum", AuthorizeField::EnvoyRouteChecksum),
    ("envoy-route-id", AuthorizeField::EnvoyRouteId),
    ("route-checksum", AuthorizeField::RouteChecksum),
    ("route-id", AuthorizeField::RouteId),
    ("cluster-stat-name", AuthorizeField::ClusterStatName),
    ("headers", AuthorizeField::Headers),
    ("id-token", AuthorizeField::IdToken),
    ("id-token-claims", AuthorizeField::IdTokenClaims),
    ("query", AuthorizeField::Query),
];

const AUTHORIZE_DEFAULT: [&str; 18] = [
    "request-id",
    "check-request-id",
    "method",
    "path",
    "host",
    "ip",
    "session-id",
    "impersonate-session-id",
    "impersonate-user-id",
    "impersonate-email",
    "removed-groups-count",
    "service-account-id",
    "user",
    "email",
    "envoy-route-checksum",
    "envoy-route-id",
    "route-checksum",
    "route-id",
];
