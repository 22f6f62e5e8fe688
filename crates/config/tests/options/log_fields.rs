//! `authorize_log_fields`: every name of the specification is a field, or refused by name; none is silently empty.

use super::*;

/// Spec policy.md 15.1.
const NAMES: [&str; 27] = [
    "request-id",
    "check-request-id",
    "method",
    "path",
    "host",
    "query",
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
    "body",
    "cluster-stat-name",
    "headers",
    "headers.X-Team",
    "id-token",
    "id-token-claims",
    "mcp-method",
    "mcp-tool",
];

fn with(field: &str) -> Found {
    load(&format!("authorize_log_fields: [{field}]\n{}", routed("")))
}

#[test]
fn each_name_is_a_field_or_refused() {
    for name in NAMES.into_iter().chain(["mcp-tool-parameters"]) {
        let found = with(name);
        let fields = found.settings().log.authorize_fields.len();
        let of_mcp = name == "body" || name.starts_with("mcp-");
        if of_mcp {
            let [refusal] = found.refusals.as_slice() else {
                panic!("{name}: {:?}", found.refusals)
            };
            assert!(refusal.why.contains(&format!("`{name}`")), "{refusal:?}");
            assert_eq!(refusal.key, "authorize_log_fields");
        } else {
            assert!(found.refusals.is_empty(), "{name}: {:?}", found.refusals);
        }
        assert_eq!(fields, usize::from(!of_mcp), "{name}");
        assert!(found.warnings.is_empty(), "{name}: {:?}", found.warnings);
    }
}

#[test]
fn what_is_no_field_is_told() {
    for name in ["nope", "headers.", "\"headers.not a name\"", "MCP-tool"] {
        let found = with(name);
        assert!(found.warned("unknown field"), "{name}: {:?}", found.warnings);
        assert!(found.settings().log.authorize_fields.is_empty(), "{name}");
    }
    assert!(with("session_id").warned("did you mean `session-id`?"));
}
