//! Options in the JSON form of protocol buffers, which the key table does not describe.

use serde_json::{Map, Value, json};

/// The schema of such an option; anything where it is another.
pub(super) fn of_option(name: &str) -> Value {
    match name {
        "health_checks" => json!({ "type": "array", "items": health_check() }),
        "outlier_detection" => outlier_detection(),
        "match_subject_alt_names" => subject_alt_names(),
        _ => json!({}),
    }
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)s$" })
}

fn number(max: u32) -> Value {
    json!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": max }, { "type": "string" }] })
}

fn fields(names: &[&str], schema: &Value) -> Map<String, Value> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), schema.clone()))
        .collect()
}

fn message(parts: impl IntoIterator<Item = Map<String, Value>>) -> Value {
    let properties: Map<String, Value> = parts.into_iter().flatten().collect();
    json!({ "type": "object", "properties": properties })
}

fn health_check() -> Value {
    let payload = json!({
        "anyOf": [
            { "type": "object", "properties": { "text": { "type": "string", "pattern": "^([0-9a-fA-F]{2})*$" } } },
            { "type": "object", "properties": { "binary": { "type": "string" } } },
        ],
    });
    let payloads = json!({ "type": "array", "items": payload });
    let text = json!({ "type": "string" });
    let range = message([fields(&["start", "end"], &number(600))]);
    let ranges = json!({ "type": "array", "items": range });
    let http = message([
        fields(&["host", "path"], &text),
        fields(&["send"], &payload),
        fields(&["receive"], &payloads),
        fields(&["response_buffer_size"], &number(u32::MAX)),
        fields(
            &["request_headers_to_remove"],
            &json!({ "type": "array", "items": text }),
        ),
        fields(&["expected_statuses", "retriable_statuses"], &ranges),
        fields(&["codec_client_type"], &json!({ "enum": ["HTTP1", "HTTP2"] })),
    ]);
    let tcp = message([fields(&["send"], &payload), fields(&["receive"], &payloads)]);
    let grpc = message([fields(&["service_name", "authority"], &text)]);
    let durations = [
        "timeout",
        "interval",
        "initial_jitter",
        "interval_jitter",
        "no_traffic_interval",
        "no_traffic_healthy_interval",
        "unhealthy_interval",
        "unhealthy_edge_interval",
        "healthy_edge_interval",
    ];
    let switches = [
        "reuse_connection",
        "always_log_health_check_failures",
        "always_log_health_check_success",
    ];
    let numbers = [
        "interval_jitter_percent",
        "unhealthy_threshold",
        "healthy_threshold",
    ];
    let mut check = message([
        fields(&durations, &duration()),
        fields(&switches, &json!({ "type": "boolean" })),
        fields(&numbers, &number(u32::MAX)),
        fields(&["alt_port"], &number(65535)),
        fields(&["http_health_check"], &http),
        fields(&["tcp_health_check"], &tcp),
        fields(&["grpc_health_check"], &grpc),
    ]);
    check["required"] = json!(["timeout", "interval", "unhealthy_threshold", "healthy_threshold"]);
    check
}

fn outlier_detection() -> Value {
    let durations = [
        "interval",
        "base_ejection_time",
        "max_ejection_time",
        "max_ejection_time_jitter",
    ];
    let percentages = [
        "max_ejection_percent",
        "enforcing_consecutive_5xx",
        "enforcing_consecutive_gateway_failure",
        "enforcing_success_rate",
        "enforcing_consecutive_local_origin_failure",
        "enforcing_local_origin_success_rate",
        "failure_percentage_threshold",
        "enforcing_failure_percentage",
        "enforcing_failure_percentage_local_origin",
    ];
    let numbers = [
        "consecutive_5xx",
        "consecutive_gateway_failure",
        "consecutive_local_origin_failure",
        "success_rate_minimum_hosts",
        "success_rate_request_volume",
        "success_rate_stdev_factor",
        "failure_percentage_minimum_hosts",
        "failure_percentage_request_volume",
    ];
    let switches = [
        "split_external_local_origin_errors",
        "successful_active_health_check_uneject_host",
        "always_eject_one_host",
    ];
    message([
        fields(&durations, &duration()),
        fields(&percentages, &number(100)),
        fields(&numbers, &number(u32::MAX)),
        fields(&switches, &json!({ "type": "boolean" })),
    ])
}

fn subject_alt_names() -> Value {
    let kinds = ["dns", "email", "uri", "ip_address", "user_principal_name"];
    let mut item = message([fields(&kinds, &json!({ "type": "string", "format": "regex" }))]);
    item["minProperties"] = json!(1);
    item["maxProperties"] = json!(1);
    json!({ "type": "array", "items": item })
}
