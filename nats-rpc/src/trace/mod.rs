//! Traces across services: W3C Trace Context for input and output, and the spans of requests and calls.
//!
//! - here: the two headers, and the context of the running handler
//! - `span`: the spans of requests and calls for `tracing`
//! - `otel` (replaces it with feature `otel`): the same, by OpenTelemetry's messaging conventions

#[cfg(feature = "otel")]
mod otel;
#[cfg(not(feature = "otel"))]
mod span;

use std::cell::RefCell;
use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue};

use crate::message::{Preface, is_named};

#[cfg(feature = "otel")]
pub(crate) use self::otel::{call_span, end_span, request_span};
#[cfg(not(feature = "otel"))]
pub(crate) use self::span::{call_span, end_span, request_span};

pub(crate) const PARENT: &str = "traceparent";
pub(crate) const STATE: &str = "tracestate";
static TRACEPARENT: HeaderName = HeaderName::from_static(PARENT);
static TRACESTATE: HeaderName = HeaderName::from_static(STATE);

/// Limit of a forwarded `tracestate`, in bytes and in members of the list.
const MAX_STATE: usize = 512;
const MAX_MEMBERS: usize = 32;
/// Members longer than this, in bytes, are dropped first if not all of them fit.
const LONG_MEMBER: usize = 128;

thread_local! {
    static CURRENT: RefCell<Option<Arc<TraceContext>>> = const { RefCell::new(None) };
}

/// The attributes of a request's span that depend on where the request arrived.
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "OpenTelemetry wants to know more"))]
pub(crate) struct Origin<'a> {
    pub(crate) subject: &'a str,
    pub(crate) pattern: &'a str,
    pub(crate) handler: &'static str,
    pub(crate) queue: Option<&'a str>,
    pub(crate) is_event: bool,
    /// The size of the body, in bytes.
    pub(crate) size: usize,
}

/// A position in a trace (W3C Trace Context, level 1): the headers `traceparent` and `tracestate`.
///
/// It is cheap to parse, because every request of a traced system carries one. It is shared, because each poll of a
/// handler makes it the current one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// ASCII of this version. Additions of later versions are dropped, as the recommendation requires.
    parent: [u8; PARENT_LEN],
    state: Option<Box<str>>,
}

/// The length of `00-<32 digits>-<16 digits>-<2 digits>`.
const PARENT_LEN: usize = 55;
/// The positions of its dashes.
const DASHES: [usize; 3] = [2, 35, 52];

impl TraceContext {
    /// Returns the context of the two values; `None` if they are malformed.
    pub(crate) fn parse(parent: &str, state: &str) -> Option<Self> {
        Some(Self { parent: traceparent(parent)?, state: tracestate(state) })
    }

    /// Reads the context of a message; `None` if it is malformed.
    pub(crate) fn of(preface: &Preface<'_>) -> Option<Self> {
        let parent = traceparent(preface.traceparent?)?;
        let state = preface.tracestate.as_deref().and_then(tracestate);
        Some(Self { parent, state })
    }

    pub(crate) fn parent(&self) -> &str {
        str::from_utf8(&self.parent).unwrap_or_default()
    }

    /// Returns the 32 hexadecimal digits that all spans of the trace have in common.
    pub(crate) fn trace_id(&self) -> &str {
        self.parent().get(3..35).unwrap_or_default()
    }

    pub(crate) fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT.clone(), HeaderValue::from(self.parent()));
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE.clone(), HeaderValue::from(&**state));
        }
    }
}

/// Returns the value of a header, in any case. A message has few headers, so a scan of them is cheap.
fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let (_, values) = headers.iter().find(|(known, _)| is_named(known.as_ref(), name))?;
    values.first().map(HeaderValue::as_str)
}

/// Adds the current context to an outgoing message, unless the caller has set one.
///
/// With feature `otel` it is the context of the current span. Without it, it is the unchanged context of the running
/// handler's request: a hop that records no spans forwards the context that it received.
pub(crate) fn inject(headers: &mut HeaderMap) {
    if let Some(context) = current()
        && value(headers, PARENT).is_none()
    {
        context.write(headers);
    }
}

fn current() -> Option<Arc<TraceContext>> {
    #[cfg(feature = "otel")]
    if let Some(context) = otel::current() {
        return Some(context.into());
    }
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `context` the context of the calls that `poll` makes.
// Every poll of a handler calls this function.
#[inline(always)]
pub(crate) fn scoped<R>(context: Option<&Arc<TraceContext>>, poll: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<TraceContext>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    // Most requests have no context, and pay nothing here.
    let Some(context) = context else { return poll() };
    let _restore = Restore(CURRENT.replace(Some(context.clone())));
    poll()
}

/// Parses `version "-" trace-id "-" parent-id "-" flags`, in lower-case hexadecimal digits, with ids that are not all
/// zero. A later version may have more fields after a further dash.
fn traceparent(text: &str) -> Option<[u8; PARENT_LEN]> {
    // Avoids a branch for each digit, because many requests carry the header.
    let hex = |part: &[u8]| part.iter().fold(true, |all, byte| all & matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let (known, more) = text.as_bytes().split_first_chunk()?;
    let (version, trace, parent) = (&known[..2], &known[3..35], &known[36..52]);
    let mut digits = *known;
    let dashes = DASHES.map(|at| std::mem::replace(&mut digits[at], b'0'));
    let whole = more.is_empty() || (more[0] == b'-' && version != b"00");
    let sound = dashes == *b"---" && hex(&digits) && version != b"ff" && id(trace) && id(parent) && whole;
    let mut ours = *known;
    ours[..2].copy_from_slice(b"00");
    sound.then_some(ours)
}

/// Returns the part of a `tracestate` to forward. If the list is too long, whole members are dropped: first the long
/// ones, then those at the end, because the newest come first. A list of too many members counts as absent.
fn tracestate(text: &str) -> Option<Box<str>> {
    if text.is_empty() || memchr::memchr_iter(b',', text.as_bytes()).count() >= MAX_MEMBERS {
        return None;
    }
    // Only characters that may be sent are forwarded; the recommendation allows no others either.
    if !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return None;
    }
    if text.len() <= MAX_STATE {
        return Some(text.into());
    }
    let mut kept = String::with_capacity(MAX_STATE);
    for member in text.split(',').filter(|member| member.len() <= LONG_MEMBER) {
        if kept.len() + 1 + member.len() > MAX_STATE {
            break;
        }
        if !kept.is_empty() {
            kept.push(',');
        }
        kept.push_str(member);
    }
    (!kept.is_empty()).then(|| kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(parent: &str, state: Option<&str>) -> Option<Arc<TraceContext>> {
        let preface = Preface { traceparent: Some(parent), tracestate: state.map(Into::into), ..Preface::default() };
        TraceContext::of(&preface).map(Arc::new)
    }

    #[test]
    fn a_context_is_read_and_written_unchanged() {
        let context = context(SENT, Some("vendor=1")).unwrap();
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let mut out = HeaderMap::new();
        scoped(Some(&context), || inject(&mut out));
        assert_eq!(TraceContext::of(&Preface::of(Some(&out))).as_ref(), Some(&*context));
    }

    #[test]
    fn a_later_version_is_passed_on_as_far_as_this_one_knows_it() {
        for later in [SENT.replacen("00", "01", 1), SENT.replacen("00", "cc", 1) + "-more"] {
            assert_eq!(context(&later, None), context(SENT, None), "{later}");
        }
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
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        ];
        for text in cases {
            assert_eq!(context(text, None), None, "{text}");
        }
    }

    #[test]
    fn of_a_state_that_is_too_long_whole_members_are_left_out_and_the_newest_stay() {
        let state = |text: &str| context(SENT, Some(text)).unwrap().state.as_deref().map(str::to_owned);
        let member = |name: char, bytes: usize| format!("{name}={}", "1".repeat(bytes - 2));
        let whole = format!("{},{}", member('a', 255), member('b', 256));
        assert_eq!(state(&whole), Some(whole), "512 bytes");
        let [a, b, c, d, long] =
            [('a', 128), ('b', 128), ('c', 128), ('d', 125), ('l', 129)].map(|(n, b)| member(n, b));
        assert_eq!(
            state(&[&*a, &long, &b, &c, &d].join(",")),
            Some([&*a, &b, &c, &d].join(",")),
            "512 without the long"
        );
        assert_eq!(state(&[&*a, &b, &c, &a].join(",")), Some([&*a, &b, &c].join(",")), "the last leaves");
        assert_eq!(state(&member('a', 513)), None);
        assert_eq!(state(""), None);
        assert_eq!(state("größe=1"), None);
        let many = |members: usize| vec!["a=1"; members].join(",");
        assert_eq!(state(&many(32)), Some(many(32)));
        assert_eq!(state(&many(33)), None);
    }

    #[test]
    fn a_request_with_two_places_in_a_trace_has_none() {
        let mut headers = HeaderMap::new();
        headers.append(PARENT, SENT);
        assert!(TraceContext::of(&Preface::of(Some(&headers))).is_some());
        headers.append(PARENT, SENT);
        assert_eq!(TraceContext::of(&Preface::of(Some(&headers))), None);
    }

    #[test]
    fn nothing_is_sent_without_a_context_and_nothing_set_is_replaced() {
        let mut out = HeaderMap::new();
        inject(&mut out);
        assert!(out.is_empty());
        let mut set = HeaderMap::new();
        set.insert("traceparent", "mine");
        scoped(context(SENT, None).as_ref(), || inject(&mut set));
        assert_eq!(set.get("traceparent").unwrap().as_str(), "mine");
    }

    #[test]
    fn the_context_ends_with_its_poll_even_by_a_panic() {
        let context = context(SENT, None);
        let _ = std::panic::catch_unwind(|| scoped(context.as_ref(), || panic!("handler")));
        assert_eq!(current(), None);
    }
}
