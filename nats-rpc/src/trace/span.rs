//! What a request and a call look like to `tracing`.

use tracing::Span;

use super::{Origin, TraceContext};

/// The span of a request, at level `DEBUG`: `subject`, `handler`, `trace_id`.
// Inlined, most of its origin is not even put together where nobody looks at that level.
#[inline(always)]
pub(crate) fn request_span(origin: &Origin<'_>, context: Option<&TraceContext>) -> Span {
    let Origin { subject, handler, .. } = origin;
    tracing::debug_span!("request", subject, handler, trace_id = context.map(TraceContext::trace_id))
}

/// The span of a call, at level `DEBUG`, from its first attempt to its last word: `subject`.
pub(crate) fn call_span(subject: &str, _is_event: bool) -> Span {
    tracing::debug_span!("call", subject)
}

/// Tells the span of a request or a call how it ended; `None` is a success.
pub(crate) fn end_span(_span: &Span, _failed: Option<&'static str>) {}
