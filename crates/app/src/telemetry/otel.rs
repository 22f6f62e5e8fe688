//! Trace export over OTLP (spec proxy.md 9.3). The data plane makes the spans; this builds the pipeline
//! they leave by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanLimits,
};
use pomerium_config::settings::{OtlpProtocol, Secret, TracingSettings};
use tokio::runtime::Handle;

/// The service name of our spans.
const SERVICE: &str = "Pomerium";

/// The pipeline from spans to the collector. Must be called within a tokio runtime, whose tasks export.
///
/// Errors when the endpoint or a header cannot be used; the text names the setting.
pub fn provider(settings: &TracingSettings, version: &'static str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = exporter(settings).with_context(|| {
        format!(
            "otel_exporter_otlp_endpoint: traces cannot be sent to {}",
            settings.endpoint
        )
    })?;
    let batch = BatchConfigBuilder::default()
        .with_scheduled_delay(settings.batch_delay)
        .with_max_export_batch_size(settings.batch_size as usize)
        .build();
    let attributes = settings
        .resource_attributes
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let resource = Resource::builder()
        .with_service_name(SERVICE)
        .with_attribute(KeyValue::new("service.version", version))
        .with_attributes(attributes)
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(
            BatchSpanProcessor::builder(OnRuntime::new(exporter))
                .with_batch_config(batch)
                .build(),
        )
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            settings.sample_ratio,
        ))))
        .with_span_limits(SpanLimits::default())
        .with_resource(resource)
        .build())
}

fn exporter(settings: &TracingSettings) -> anyhow::Result<SpanExporter> {
    match settings.protocol {
        OtlpProtocol::Grpc => Ok(SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&settings.endpoint)
            .with_timeout(settings.timeout)
            .with_metadata(metadata(&settings.headers)?)
            .build()?),
        OtlpProtocol::Http => Ok(SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&settings.endpoint)
            .with_timeout(settings.timeout)
            .with_headers(plain_headers(&settings.headers)?)
            .build()?),
    }
}

fn plain_headers(headers: &[(String, Secret)]) -> anyhow::Result<HashMap<String, String>> {
    headers
        .iter()
        .map(|(name, value)| Ok((name.clone(), text(name, value)?.to_owned())))
        .collect()
}

fn metadata(headers: &[(String, Secret)]) -> anyhow::Result<MetadataMap> {
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        let key: http::HeaderName = name
            .parse()
            .with_context(|| format!("otel_exporter_otlp_headers: `{name}` is not a header name"))?;
        let mut value = http::HeaderValue::from_str(text(name, value)?).with_context(|| {
            format!("otel_exporter_otlp_headers: the value of `{name}` is not a header value")
        })?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(MetadataMap::from_headers(map))
}

fn text<'a>(name: &str, value: &'a Secret) -> anyhow::Result<&'a str> {
    std::str::from_utf8(value.expose())
        .with_context(|| format!("otel_exporter_otlp_headers: the value of `{name}` is not text"))
}

/// Runs exports on the runtime it was made on: the batch processor has a thread of its own, where neither client could
/// open a connection.
#[derive(Debug)]
struct OnRuntime {
    exporter: Arc<SpanExporter>,
    runtime: Handle,
}

impl OnRuntime {
    fn new(exporter: SpanExporter) -> Self {
        Self {
            exporter: Arc::new(exporter),
            runtime: Handle::current(),
        }
    }
}

impl opentelemetry_sdk::trace::SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let exported = self.runtime.spawn(async move { exporter.export(batch).await });
        exported
            .await
            .unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
