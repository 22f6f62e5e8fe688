//! Trace export (spec config.md 8.13).

use std::time::Duration;

use super::Cx;
use crate::settings::{OtlpProtocol, Secret, TracingSettings};
use crate::spec::go_url::GoUrl;
use crate::spec::values::Values;

/// Export settings, when an exporter is chosen and not switched off by `OTEL_SDK_DISABLED`.
pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> Option<TracingSettings> {
    let name = "otel_traces_exporter";
    match values.text(name) {
        "otlp" => {}
        "" | "none" | "noop" => return None,
        other => {
            let message = format!("error configuring trace client: unknown exporter \"{other}\"");
            cx.sink
                .warn(values.place(name), name, message, "write otlp or none");
            return None;
        }
    }
    if cx
        .env
        .get("OTEL_SDK_DISABLED")
        .is_some_and(|value| value == "true")
    {
        return None;
    }
    let protocol = protocol(values, cx);
    let own = values.texts("otel_exporter_otlp_traces_headers");
    let headers = if own.is_empty() {
        values.texts("otel_exporter_otlp_headers")
    } else {
        own
    };
    let millis = |name: &str| values.duration(name);
    let positive = |name: &str| {
        values
            .int(name)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
    };
    let endpoint = endpoint(values, protocol);
    if let Err(message) = check_endpoint(&endpoint) {
        let name = "otel_exporter_otlp_endpoint";
        let help = "write a URL such as http://127.0.0.1:4318; until then no traces are exported";
        cx.sink.warn(values.place(name), name, message, help);
        return None;
    }
    Some(TracingSettings {
        endpoint,
        protocol,
        headers: export_headers(headers, values, cx),
        timeout: millis("otel_exporter_otlp_traces_timeout")
            .or_else(|| millis("otel_exporter_otlp_timeout"))
            .unwrap_or(Duration::from_secs(10)),
        sample_ratio: values
            .float("otel_traces_sampler_arg")
            .unwrap_or(1.0)
            .clamp(0.0, 1.0),
        resource_attributes: pairs(values.texts("otel_resource_attributes")).collect(),
        attribute_value_length_limit: positive("otel_attribute_value_length_limit").unwrap_or(u32::MAX),
        batch_delay: millis("otel_bsp_schedule_delay")
            .unwrap_or(Duration::from_secs(5))
            .max(Duration::from_millis(100)),
        batch_size: positive("otel_bsp_max_export_batch_size").unwrap_or(512),
    })
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let wrong = |why: &str| format!("error configuring trace client: \"{endpoint}\" {why}");
    let url = GoUrl::parse(endpoint).map_err(|error| wrong(&error))?;
    if !matches!(url.scheme.as_str(), "http" | "https") {
        return Err(wrong("is neither http nor https"));
    }
    if url.host.is_empty() {
        return Err(wrong("has no host"));
    }
    Ok(())
}

/// Those that can be sent; the others are told, without their values.
fn export_headers(items: &[String], values: &Values, cx: &mut Cx<'_>) -> Vec<(String, Secret)> {
    let (good, bad): (Vec<_>, Vec<_>) = pairs(items).partition(|(name, value)| {
        http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value).is_ok()
    });
    let place_of = "otel_exporter_otlp_headers";
    for (name, _) in bad {
        let message = format!("error configuring trace client: \"{name}\" is no header: it is left out");
        cx.sink
            .warn(values.place(place_of), place_of, message, "write name=value");
    }
    let secret = |(name, value): (String, String)| (name, Secret::new(value.into_bytes()));
    good.into_iter().map(secret).collect()
}

/// `k=v` items; those without `=` are dropped.
fn pairs(items: &[String]) -> impl Iterator<Item = (String, String)> {
    items
        .iter()
        .filter_map(|item| item.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
}

fn protocol(values: &Values, cx: &mut Cx<'_>) -> OtlpProtocol {
    for name in [
        "otel_exporter_otlp_traces_protocol",
        "otel_exporter_otlp_protocol",
    ] {
        match values.text(name) {
            "" => {}
            "grpc" => return OtlpProtocol::Grpc,
            "http/protobuf" => return OtlpProtocol::Http,
            other => {
                let message = format!("unknown protocol \"{other}\": guessed from the endpoint");
                cx.sink
                    .warn(values.place(name), name, message, "write grpc or http/protobuf");
            }
        }
    }
    let traces = values.some_text("otel_exporter_otlp_traces_endpoint");
    let base = values.some_text("otel_exporter_otlp_endpoint");
    guess(traces, base)
}

/// By port, else by whether there is a path: an endpoint of traces has one for HTTP, a base one for gRPC.
fn guess(traces: Option<&str>, base: Option<&str>) -> OtlpProtocol {
    let Some(url) = traces.or(base).and_then(|text| GoUrl::parse(text).ok()) else {
        return OtlpProtocol::Grpc;
    };
    let has_path = !matches!(url.path.as_str(), "" | "/");
    match url.port() {
        "4318" => OtlpProtocol::Http,
        "4317" => OtlpProtocol::Grpc,
        _ if has_path == traces.is_some() => OtlpProtocol::Http,
        _ => OtlpProtocol::Grpc,
    }
}

fn endpoint(values: &Values, protocol: OtlpProtocol) -> String {
    if let Some(traces) = values.some_text("otel_exporter_otlp_traces_endpoint") {
        return traces.to_owned();
    }
    match (values.some_text("otel_exporter_otlp_endpoint"), protocol) {
        (Some(base), OtlpProtocol::Http) => format!("{}/v1/traces", base.trim_end_matches('/')),
        (Some(base), OtlpProtocol::Grpc) => base.to_owned(),
        (None, OtlpProtocol::Http) => "http://localhost:4318/v1/traces".to_owned(),
        (None, OtlpProtocol::Grpc) => "http://localhost:4317".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_by_endpoint() {
        assert_eq!(guess(None, Some("http://c:4318")), OtlpProtocol::Http);
        assert_eq!(guess(None, Some("http://c:4317/x")), OtlpProtocol::Grpc);
        assert_eq!(guess(None, Some("http://c:9")), OtlpProtocol::Http);
        assert_eq!(guess(None, Some("http://c:9/x")), OtlpProtocol::Grpc);
        assert_eq!(guess(Some("http://c:9/v1/traces"), None), OtlpProtocol::Http);
        assert_eq!(guess(Some("http://c:9"), None), OtlpProtocol::Grpc);
    }
}
