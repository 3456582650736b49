//! The span and the metrics of a call.

use std::time::Instant;

use tracing::Instrument;

use super::error::CallError;
use crate::{metrics, trace};

/// Runs a call, or the publication of an event, in its span, and records its result.
pub(super) async fn observed<R>(
    subject: &str,
    is_event: bool,
    call: impl Future<Output = Result<R, CallError>>,
) -> Result<R, CallError> {
    let span = trace::call_span(subject, is_event);
    let started = Instant::now();
    let outcome = call.instrument(span.clone()).await;
    let failed = outcome.as_ref().err().map(name);
    trace::end_span(&span, failed);
    metrics::call_finished(started.elapsed(), failed.unwrap_or("OK"));
    outcome
}

/// Returns the code of the service's error reply, or the reason that there was no reply.
fn name(error: &CallError) -> &'static str {
    match error {
        CallError::Remote(error) => error.code().map_or("OTHER", |code| code.as_str()),
        CallError::NoResponders { .. } => "NO_RESPONDERS",
        CallError::TimedOut { .. } => "TIMED_OUT",
        CallError::ConnectionLost { .. } => "CONNECTION_LOST",
        CallError::CapturedByStream { .. } => "CAPTURED_BY_STREAM",
        CallError::Disconnected => "DISCONNECTED",
        CallError::Forbidden { .. } => "FORBIDDEN",
        CallError::Invalid(_) => "INVALID",
        CallError::TooLarge { .. } => "TOO_LARGE",
        CallError::Decode(_) => "DECODE",
        CallError::InboxForbidden { .. } => "INBOX_FORBIDDEN",
        CallError::IncompleteResponse { .. } => "INCOMPLETE_RESPONSE",
    }
}
