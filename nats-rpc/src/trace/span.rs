//! The spans of requests and calls for `tracing`.

use tracing::Span;

use super::{Origin, TraceContext};

/// Creates the span of a request, at level `DEBUG`: `subject`, `handler`, `trace_id`.
// Once inlined, most of `origin` is not even computed if the level is disabled.
#[inline(always)]
pub(crate) fn request_span(origin: &Origin<'_>, context: Option<&TraceContext>) -> Span {
    let Origin { subject, handler, .. } = origin;
    tracing::debug_span!("request", subject, handler, trace_id = context.map(TraceContext::trace_id))
}

/// Creates the span of a call, at level `DEBUG`, from its first attempt to its outcome: `subject`.
pub(crate) fn call_span(subject: &str, _is_event: bool) -> Span {
    tracing::debug_span!("call", subject)
}

/// Records the outcome in the span of a request or a call; `None` is a success.
pub(crate) fn end_span(_span: &Span, _failed: Option<&'static str>) {}
