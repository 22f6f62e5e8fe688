//! Traces: the context is passed on, and the span arrives at a collector over OTLP.

use anyhow::{Context, Result};
use pomerium_testing::{Environment, Route, Upstream};

const TRACE: [u8; 16] = [
    0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36,
];
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_span_joins_the_callers_trace_and_reaches_the_collector() -> Result<()> {
    let (upstream, collector) = (Upstream::start().await?, Upstream::start().await?);
    let env = Environment::builder()?
        .set("otel_traces_exporter", "otlp")
        .set("otel_exporter_otlp_endpoint", collector.url())
        .set("otel_exporter_otlp_protocol", "http/protobuf")
        .set("otel_bsp_schedule_delay", 100)
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    let reply = env
        .client()?
        .get_with(&env.url("open", "/traced"), &[("traceparent", PARENT)])
        .await?;
    assert_eq!(reply.status, 200);

    let requests = upstream.requests();
    let passed_on = requests[0]
        .header("traceparent")
        .context("no traceparent upstream")?;
    assert!(
        passed_on.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        "{passed_on}"
    );
    assert_ne!(
        passed_on, PARENT,
        "the upstream's parent is our span, not the caller's"
    );

    collector.wait_for(1).await?;
    let exports = collector.requests();
    assert_eq!(exports[0].target, "/v1/traces");
    let holds = |needle: &[u8]| exports[0].body.windows(needle.len()).any(|part| part == needle);
    assert!(holds(&TRACE), "the span is of another trace");
    assert!(holds(b"/traced"), "the span does not name the path");
    Ok(())
}

#[tokio::test]
async fn without_tracing_the_callers_context_goes_through_untouched() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &upstream.url()).public())
        .start()
        .await?;
    env.client()?
        .get_with(&env.url("open", "/"), &[("traceparent", PARENT)])
        .await?;
    assert_eq!(upstream.requests()[0].header("traceparent"), Some(PARENT));
    Ok(())
}
