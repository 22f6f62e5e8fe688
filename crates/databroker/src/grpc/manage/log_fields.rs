//! What logs may hold (spec config-api.md 3).

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

const ACCESS: [&str; 16] = [
    "authority",
    "client-certificate",
    "cluster-stat-name",
    "duration",
    "forwarded-for",
    "ip",
    "method",
    "path",
    "query",
    "referer",
    "request-id",
    "response-code",
    "response-code-details",
    "size",
    "upstream-cluster",
    "user-agent",
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
const AUTHORIZE: [&str; 27] = [
    "body",
    "check-request-id",
    "cluster-stat-name",
    "email",
    "envoy-route-checksum",
    "envoy-route-id",
    "headers",
    "host",
    "id-token",
    "id-token-claims",
    "impersonate-email",
    "impersonate-session-id",
    "impersonate-user-id",
    "ip",
    "mcp-method",
    "mcp-tool",
    "mcp-tool-parameters",
    "method",
    "path",
    "query",
    "removed-groups-count",
    "request-id",
    "route-checksum",
    "route-id",
    "service-account-id",
    "session-id",
    "user",
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

/// The answer to `ListAvailableLogFields`.
pub(super) fn fill(output: MessageDescriptor) -> DynamicMessage {
    let mut answer = DynamicMessage::new(output);
    let lists: [(&str, &[&str]); 4] = [
        ("available_access_log_fields", &ACCESS),
        ("available_authorize_log_fields", &AUTHORIZE),
        ("default_access_log_fields", &ACCESS_DEFAULT),
        ("default_authorize_log_fields", &AUTHORIZE_DEFAULT),
    ];
    for (field, names) in lists {
        let names = names.iter().map(|name| Value::String((*name).to_owned()));
        answer.set_field_by_name(field, Value::List(names.collect()));
    }
    answer
}
