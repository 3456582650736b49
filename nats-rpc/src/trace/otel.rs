//! Spans for OpenTelemetry, by its semantic conventions for messaging (version 1.37).
//!
//! The span of a message handler is of kind `server` and that of a call of kind `client`, because both last until the
//! reply. Those of an event are `consumer` and `producer`. This module defines all attributes.

use std::io::Write;
use std::str::FromStr;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{Origin, PARENT_LEN, TraceContext};

/// Creates the span of a request, at level `DEBUG`, as a child of the span that its sender named.
pub(crate) fn request_span(origin: &Origin<'_>, context: Option<&TraceContext>) -> Span {
    let Origin { subject, handler, pattern, queue, is_event, size } = *origin;
    let span = tracing::debug_span!(
        "request",
        subject,
        handler,
        trace_id = context.map(TraceContext::trace_id),
        otel.name = format_args!("process {pattern}"),
        otel.kind = if is_event { "consumer" } else { "server" },
        otel.status_code = Empty,
        error.type = Empty,
        messaging.system = "nats",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = subject,
        messaging.destination.template = pattern,
        messaging.consumer.group.name = queue,
        messaging.message.body.size = size,
    );
    if let Some(remote) = context.and_then(TraceContext::to_otel) {
        // This fails only if no OpenTelemetry layer is installed, and then the parent is not needed.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    }
    span
}

/// Creates the span of a call, at level `DEBUG`, from its first attempt to its outcome.
///
/// Its name has no subject: a caller's subjects may contain ids, and backends aggregate by name.
pub(crate) fn call_span(subject: &str, is_event: bool) -> Span {
    tracing::debug_span!(
        "call",
        subject,
        otel.name = "send",
        otel.kind = if is_event { "producer" } else { "client" },
        otel.status_code = Empty,
        error.type = Empty,
        messaging.system = "nats",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = subject,
    )
}

/// Records the outcome in the span of a request or a call; `None` is a success.
pub(crate) fn end_span(span: &Span, failed: Option<&'static str>) {
    if let Some(code) = failed {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", code);
    }
}

/// Returns the context of the current span, if OpenTelemetry records it.
pub(super) fn current() -> Option<TraceContext> {
    let context = Span::current().context();
    let span = context.span();
    let found = span.span_context();
    found.is_valid().then(|| TraceContext::from_otel(found))
}

impl TraceContext {
    fn to_otel(&self) -> Option<SpanContext> {
        let mut parts = self.parent().split('-').skip(1);
        let trace = TraceId::from_hex(parts.next()?).ok()?;
        let span = SpanId::from_hex(parts.next()?).ok()?;
        let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
        let state = self.state.as_deref().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
        // Of the flags, only `sampled` has a meaning that a later version may not change.
        let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        Some(SpanContext::new(trace, span, flags, true, state))
    }

    fn from_otel(context: &SpanContext) -> Self {
        let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
        let state = context.trace_state().header();
        let mut parent = [b'0'; PARENT_LEN];
        // Three numbers of fixed width fill the buffer exactly, so writing cannot fail.
        let _ = write!(&mut parent[..], "00-{trace}-{span}-{flags:02x}");
        Self { parent, state: (!state.is_empty()).then(|| state.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_the_way_to_opentelemetry_and_back() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = parent.as_bytes().try_into().unwrap();
        let context = TraceContext { parent, state: Some("a=1,b=2".into()) };
        assert_eq!(TraceContext::from_otel(&context.to_otel().unwrap()), context);
    }
}
