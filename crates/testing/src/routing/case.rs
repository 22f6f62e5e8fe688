//! The form of a routing case. Unknown fields are errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    #[allow(dead_code, reason = "read as a value before")]
    name: String,
    #[serde(default)]
    pub(super) options: Map<String, Value>,
    pub(super) routes: Vec<Map<String, Value>>,
    pub(super) request: Request,
    pub(super) upstream_response: Option<UpstreamResponse>,
    pub(super) expect: Expect,
    #[allow(dead_code, reason = "for the reader of the case")]
    note: Option<String>,
    #[allow(dead_code, reason = "for the reader of the case")]
    deviation: Option<String>,
    #[allow(dead_code, reason = "read as a value before")]
    unsure: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) host: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) tls: Option<bool>,
    pub(super) client_ip: Option<String>,
    pub(super) protocol: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamResponse {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Absent: the case says nothing. Null: no route. A number or `"internal"` otherwise.
    #[serde(default, deserialize_with = "present")]
    pub(super) route: Option<Value>,
    pub(super) upstream: Option<ExpectUpstream>,
    pub(super) response: Option<ExpectResponse>,
}

/// Tells `null` from an absent field.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectUpstream {
    pub(super) path: String,
    pub(super) host: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) absent: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectResponse {
    pub(super) status: u16,
    pub(super) details: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
    pub(super) body_json: Option<Value>,
    #[serde(default)]
    pub(super) body_contains: Vec<String>,
    #[serde(default)]
    pub(super) absent: Vec<String>,
    #[serde(default)]
    pub(super) header_present: Vec<String>,
    #[serde(default)]
    pub(super) header_not: BTreeMap<String, String>,
    pub(super) grpc_message_json: Option<Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(expect: &Value) -> Result<Case, serde_json::Error> {
        serde_json::from_value(json!({
            "name": "n", "routes": [], "request": { "method": "GET", "url": "https://a/" }, "expect": expect,
        }))
    }

    #[test]
    fn an_unknown_expectation_is_refused() {
        assert!(case(&json!({ "route": 0 })).is_ok());
        assert!(case(&json!({ "rout": 0 })).is_err());
        assert!(case(&json!({ "response": { "status": 200, "bdy": "" } })).is_err());
        assert!(case(&json!({ "upstream": { "path": "/", "port": 1 } })).is_err());
    }

    #[test]
    fn no_route_and_nothing_said_are_different() {
        assert_eq!(
            case(&json!({ "route": null })).unwrap().expect.route,
            Some(Value::Null)
        );
        assert_eq!(case(&json!({})).unwrap().expect.route, None);
    }
}
