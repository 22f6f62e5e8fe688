//! Requests, name lookups, metrics, traces.

use super::super::route::BREAKER;
use super::super::{ESCAPED_SLASHES, Key, Kind, UNDERSCORES};

const UINT: Kind = Kind::Int(0, u32::MAX as i64);

const INT32: Kind = Kind::Int(i32::MIN as i64, i32::MAX as i64);

pub(super) const HTTP: &[Key] = &[
    Key::new("timeout_read", Kind::Duration, "Time to receive a request.").or("30s"),
    Key::new(
        "timeout_write",
        Kind::Duration,
        "Longest life of a request; 0 is off.",
    )
    .or("0s"),
    Key::new(
        "timeout_idle",
        Kind::Duration,
        "Longest idle time of a connection.",
    )
    .or("5m"),
    Key::new(
        "default_upstream_timeout",
        Kind::Duration,
        "Response time where a route sets none.",
    )
    .or("30s"),
    Key::new(
        "pass_identity_headers",
        Kind::Bool,
        "Default of the route option.",
    )
    .nullable(),
    Key::new(
        "set_response_headers",
        Kind::TextMap,
        "Headers on every response; the key `disable` sets none.",
    )
    .env("HEADERS")
    .nullable(),
    Key::new(
        "skip_xff_append",
        Kind::Bool,
        "Do not add the client to X-Forwarded-For.",
    )
    .or("false"),
    Key::new(
        "xff_num_trusted_hops",
        UINT,
        "Trusted proxies in X-Forwarded-For.",
    )
    .or("0"),
    Key::new("allow_upgrades", Kind::Texts, "Upgrades that routes let through.").nullable(),
    Key::new(
        "headers_with_underscores_action",
        Kind::Choice(&UNDERSCORES),
        "Header names with an underscore.",
    )
    .nullable(),
    Key::new("merge_slashes", Kind::Bool, "Collapse // in paths.").or("true"),
    Key::new("normalize_path", Kind::Bool, "Resolve dot segments in paths.").or("true"),
    Key::new(
        "path_with_escaped_slashes_action",
        Kind::Choice(&ESCAPED_SLASHES),
        "Escaped slashes in paths.",
    )
    .nullable(),
    Key::new(
        "circuit_breaker_thresholds",
        Kind::Object(BREAKER),
        "Limits per upstream.",
    ),
    Key::new(
        "google_cloud_serverless_authentication_service_account",
        Kind::Text,
        "Service account for Google Cloud identity tokens.",
    ),
];

pub(super) const DNS: &[Key] = &[
    Key::new("dns_lookup_family", Kind::Text, "Address families of lookups."),
    Key::new("dns_refresh_rate", Kind::Duration, "Refresh of names.").nullable(),
    Key::new(
        "dns_failure_refresh_rate",
        Kind::Duration,
        "Refresh of names that failed.",
    )
    .nullable(),
    Key::new("dns_query_timeout", Kind::Duration, "Time limit per server.").nullable(),
    Key::new("dns_query_tries", Kind::StrictInt, "Attempts.").nullable(),
    Key::new("dns_udp_max_queries", Kind::StrictInt, "Queries per UDP port.").or("100"),
    Key::new("dns_use_tcp", Kind::StrictBool, "Lookups over TCP.").nullable(),
    Key::new("dns_resolvers", Kind::Texts, "Name servers."),
];

pub(super) const METRICS: &[Key] = &[
    Key::new("metrics_address", Kind::Text, "Prometheus listener, host:port."),
    Key::new(
        "metrics_basic_auth",
        Kind::Text,
        "Credentials of the metrics listener, base64 of user:password.",
    ),
    Key::new(
        "metrics_certificate",
        Kind::Text,
        "Certificate of the metrics listener, base64 of PEM.",
    ),
    Key::new("metrics_certificate_key", Kind::Text, "Its key, base64 of PEM."),
    Key::new(
        "metrics_certificate_file",
        Kind::Text,
        "Certificate of the metrics listener, PEM file.",
    ),
    Key::new("metrics_certificate_key_file", Kind::Text, "Its key, PEM file."),
    Key::new(
        "metrics_client_ca",
        Kind::Text,
        "Client CA of the metrics listener, base64 of PEM.",
    ),
    Key::new(
        "metrics_client_ca_file",
        Kind::Text,
        "Client CA of the metrics listener, PEM file.",
    ),
];

pub(super) const OTEL: &[Key] = &[
    Key::new("otel_traces_exporter", Kind::Text, "`otlp` exports traces.").nullable(),
    Key::new("otel_exporter_otlp_endpoint", Kind::Text, "OTLP endpoint.").nullable(),
    Key::new(
        "otel_exporter_otlp_traces_endpoint",
        Kind::Text,
        "OTLP endpoint of traces.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_protocol",
        Kind::Text,
        "grpc or http/protobuf.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_traces_protocol",
        Kind::Text,
        "The same for traces.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_headers",
        Kind::Texts,
        "Headers of exports, k=v.",
    ),
    Key::new(
        "otel_exporter_otlp_traces_headers",
        Kind::Texts,
        "The same for traces.",
    ),
    Key::new(
        "otel_exporter_otlp_timeout",
        Kind::Millis,
        "Time limit of an export, milliseconds.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_traces_timeout",
        Kind::Millis,
        "The same for traces.",
    )
    .nullable(),
    Key::new(
        "otel_traces_sampler_arg",
        Kind::Float,
        "Share of traces that is kept, 0 to 1.",
    )
    .nullable(),
    Key::new(
        "otel_resource_attributes",
        Kind::Texts,
        "Attributes of the resource, k=v.",
    ),
    Key::new("otel_log_level", Kind::Text, "Log level of the exporter.").nullable(),
    Key::new(
        "otel_attribute_value_length_limit",
        INT32,
        "Longest attribute value.",
    )
    .nullable(),
    Key::new(
        "otel_bsp_schedule_delay",
        Kind::Millis,
        "Delay of a batch, milliseconds.",
    )
    .nullable(),
    Key::new("otel_bsp_max_export_batch_size", INT32, "Spans per batch.").nullable(),
];
