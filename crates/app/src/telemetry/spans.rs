//! Spans of proxied requests: W3C trace context in, an OTLP server span out (spec proxy.md 9.3).

use http::HeaderValue;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use pomerium_proxy::{RequestSpan, Tracer};
use pomerium_web::canonical::CanonicalRequest;

/// Length of a version 00 `traceparent`.
const TRACEPARENT_LENGTH: usize = 55;

/// Makes a span for each request.
pub struct Spans {
    tracer: SdkTracer,
    value_limit: usize,
}

impl Spans {
    /// Spans that leave by `provider`; attribute values longer than `value_limit` bytes are cut.
    pub fn new(provider: &SdkTracerProvider, value_limit: u32) -> Self {
        Self {
            tracer: provider.tracer("pomerium"),
            value_limit: value_limit as usize,
        }
    }
}

impl Tracer for Spans {
    fn start(&self, request: &CanonicalRequest, traceparent: Option<&HeaderValue>) -> Box<dyn RequestSpan> {
        let parent = traceparent.and_then(|value| parse(value.as_bytes()));
        let context = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(parent)
        });
        let path = cut(&request.path, self.value_limit);
        let authority = cut(request.authority.as_str(), self.value_limit);
        let span = self
            .tracer
            .span_builder(format!("ingress: {} {authority}{path}", request.method))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", request.method.to_string()),
                KeyValue::new("server.address", authority.to_owned()),
                KeyValue::new("url.path", path.to_owned()),
                KeyValue::new("client.address", request.client_ip.to_string()),
                KeyValue::new("pomerium.request_id", request.request_id.to_string()),
            ])
            .start_with_context(&self.tracer, &context);
        Box::new(Exported(span))
    }
}

struct Exported(Span);

impl RequestSpan for Exported {
    fn traceparent(&self) -> Option<HeaderValue> {
        let context = self.0.span_context();
        let flags = context.trace_flags().to_u8();
        HeaderValue::try_from(format!(
            "00-{}-{}-{flags:02x}",
            context.trace_id(),
            context.span_id()
        ))
        .ok()
    }

    fn end(mut self: Box<Self>, status: u16, cluster: &str, details: &str) {
        self.0
            .set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        self.0
            .set_attribute(KeyValue::new("pomerium.upstream_cluster", cluster.to_owned()));
        self.0
            .set_attribute(KeyValue::new("pomerium.response_details", details.to_owned()));
        if status >= 500 {
            self.0.set_status(Status::error(details.to_owned()));
        }
        self.0.end();
    }
}

/// A `traceparent` of version 00 (W3C Trace Context 3.2); anything else starts a new trace.
fn parse(value: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.len() == TRACEPARENT_LENGTH)?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

/// `text`, at most `limit` bytes of it, whole characters.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_parent_is_taken_and_others_are_not() {
        let parent = parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(parent.trace_flags().is_sampled());
        for bad in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "nonsense",
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn values_are_cut_at_a_character() {
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(cut("abc", 10), "abc");
    }
}
