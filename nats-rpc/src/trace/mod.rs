//! Traces across services: W3C Trace Context in and out, and the spans of requests and calls.
//!
//! - here: the two headers, and the context of the handler that runs now
//! - `span`: what a request and a call look like to `tracing`
//! - `otel` (with feature `otel` in its place): the same, by OpenTelemetry's messaging conventions

#[cfg(feature = "otel")]
mod otel;
#[cfg(not(feature = "otel"))]
mod span;

use std::cell::RefCell;

use async_nats::{HeaderMap, HeaderName, HeaderValue};

#[cfg(feature = "otel")]
pub(crate) use self::otel::{call_span, end_span, request_span};
#[cfg(not(feature = "otel"))]
pub(crate) use self::span::{call_span, end_span, request_span};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What vendors add may be this long, in bytes; more is left out, as the recommendation allows.
const MAX_STATE: usize = 512;

thread_local! {
    static CURRENT: RefCell<Option<TraceContext>> = const { RefCell::new(None) };
}

/// What a request's span says of where the request arrived.
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "OpenTelemetry wants to know more"))]
pub(crate) struct Origin<'a> {
    pub(crate) subject: &'a str,
    pub(crate) pattern: &'a str,
    pub(crate) handler: &'static str,
    pub(crate) queue: Option<&'a str>,
    pub(crate) is_event: bool,
    /// Of the body, in bytes.
    pub(crate) size: usize,
}

/// A place in a trace (W3C Trace Context, level 1): the headers `traceparent` and `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    parent: Box<str>,
    state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads it from the headers of a message; one that is malformed is none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let parent = value(headers, &TRACEPARENT)?;
        if !is_traceparent(parent) {
            return None;
        }
        let state = value(headers, &TRACESTATE).filter(|state| (1..=MAX_STATE).contains(&state.len()));
        Some(Self { parent: parent.into(), state: state.map(Into::into) })
    }

    /// The 32 hexadecimal digits that all spans of the trace have in common.
    pub(crate) fn trace_id(&self) -> &str {
        &self.parent[3..35]
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT.clone(), HeaderValue::from(&*self.parent));
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE.clone(), HeaderValue::from(&**state));
        }
    }
}

/// The value of a header in any spelling. A message has few headers, so a look at each of them is cheap.
fn value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let name: &str = name.as_ref();
    let (_, values) = headers.iter().find(|(known, _)| AsRef::<str>::as_ref(*known).eq_ignore_ascii_case(name))?;
    values.first().map(HeaderValue::as_str)
}

/// Adds the present context to what is about to be sent, unless the caller has set one.
///
/// With feature `otel` it is that of the current span; else the one that the running handler's request
/// brought, unchanged: a hop that records nothing passes on what it got.
pub(crate) fn inject(headers: &mut HeaderMap) {
    if let Some(context) = current()
        && value(headers, &TRACEPARENT).is_none()
    {
        context.write(headers);
    }
}

fn current() -> Option<TraceContext> {
    #[cfg(feature = "otel")]
    if let Some(context) = otel::current() {
        return Some(context);
    }
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `context` that of the calls which `poll` makes.
pub(crate) fn scoped<R>(context: Option<&TraceContext>, poll: impl FnOnce() -> R) -> R {
    struct Restore(Option<TraceContext>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    // Most requests bring none, and pay nothing here.
    let Some(context) = context else { return poll() };
    let _restore = Restore(CURRENT.replace(Some(context.clone())));
    poll()
}

/// `version "-" trace-id "-" parent-id "-" flags`, in lower-case hexadecimal digits, the ids not all zero.
/// A later version may have more behind a further dash.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &str, len| hex(part, len) && part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let whole = match parts.next() {
        None => true,
        Some(_) => version != "00",
    };
    hex(version, 2) && version != "ff" && id(trace, 32) && id(parent, 16) && hex(flags, 2) && whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parent: &str, state: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", parent);
        if let Some(state) = state {
            headers.insert("tracestate", state);
        }
        headers
    }

    #[test]
    fn a_context_is_read_and_written_unchanged() {
        let context = TraceContext::of(&headers(PARENT, Some("vendor=1"))).unwrap();
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let mut out = HeaderMap::new();
        scoped(Some(&context), || inject(&mut out));
        assert_eq!(TraceContext::of(&out), Some(context));
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(TraceContext::of(&headers(later, None)).is_some());
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        let cases = [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        ];
        for text in cases {
            assert_eq!(TraceContext::of(&headers(text, None)), None, "{text}");
        }
    }

    #[test]
    fn a_state_that_is_too_long_is_left_out() {
        let context = TraceContext::of(&headers(PARENT, Some(&"a".repeat(MAX_STATE + 1)))).unwrap();
        assert_eq!(context.state, None);
    }

    #[test]
    fn nothing_is_sent_without_a_context_and_nothing_set_is_replaced() {
        let mut out = HeaderMap::new();
        inject(&mut out);
        assert!(out.is_empty());
        let mut set = headers("mine", None);
        scoped(TraceContext::of(&headers(PARENT, None)).as_ref(), || inject(&mut set));
        assert_eq!(set.get("traceparent").unwrap().as_str(), "mine");
    }

    #[test]
    fn the_context_ends_with_its_poll_even_by_a_panic() {
        let context = TraceContext::of(&headers(PARENT, None));
        let _ = std::panic::catch_unwind(|| scoped(context.as_ref(), || panic!("handler")));
        assert_eq!(current(), None);
    }
}
