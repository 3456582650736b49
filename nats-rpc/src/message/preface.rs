//! The headers of a request that the service itself reads.

use std::borrow::Cow;

use async_nats::{HeaderMap, HeaderValue};

use super::is_named;
use crate::deadline::{DEADLINE_HEADER, TIMEOUT_HEADER};
use crate::trace::{PARENT, STATE};
use crate::wire::stream::STREAM_HEADER;

/// The headers that a service reads from each request, found in one pass.
///
/// A message has few headers, so one pass over them is cheaper than a hash lookup for each name. Names of W3C Trace
/// Context match in any case, as the recommendation requires; those of nats-rpc match exactly.
#[derive(Debug, Default)]
pub(crate) struct Preface<'h> {
    /// The shortest value if there are several: a second one must not extend the first.
    pub(crate) timeout: Option<&'h str>,
    /// The earliest value if there are several.
    pub(crate) deadline: Option<&'h str>,
    /// Empty, which is malformed, if there are several values.
    pub(crate) stream: Option<&'h str>,
    /// Empty, which counts as absent, if there are several values: it is unknown which one is the caller's.
    pub(crate) traceparent: Option<&'h str>,
    /// Several values form one list, in their order.
    pub(crate) tracestate: Option<Cow<'h, str>>,
}

impl<'h> Preface<'h> {
    #[inline]
    pub(crate) fn of(headers: Option<&'h HeaderMap>) -> Self {
        headers.map(Self::read).unwrap_or_default()
    }

    fn read(headers: &'h HeaderMap) -> Self {
        let mut preface = Self::default();
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            let place = match name {
                TIMEOUT_HEADER => &mut preface.timeout,
                DEADLINE_HEADER => &mut preface.deadline,
                STREAM_HEADER => &mut preface.stream,
                name if is_named(name, PARENT) => {
                    let several = preface.traceparent.is_some() || values.len() > 1;
                    preface.traceparent = if several { Some("") } else { values.first().map(HeaderValue::as_str) };
                    continue;
                }
                name if is_named(name, STATE) => {
                    preface.add_state(values);
                    continue;
                }
                _ => continue,
            };
            *place = values.first().map(HeaderValue::as_str);
            if values.len() > 1 {
                *place = Some(if name == STREAM_HEADER { "" } else { smallest(values) });
            }
        }
        preface
    }

    fn add_state(&mut self, values: &'h [HeaderValue]) {
        for value in values {
            match &mut self.tracestate {
                None => self.tracestate = Some(value.as_str().into()),
                Some(state) => {
                    let state = state.to_mut();
                    state.push(',');
                    state.push_str(value.as_str());
                }
            }
        }
    }
}

/// Returns the value that is the smallest number; empty, which counts as absent, if no value is a number.
#[cold]
fn smallest(values: &[HeaderValue]) -> &str {
    let numbers = values.iter().filter_map(|value| Some((value.as_str().parse::<u64>().ok()?, value.as_str())));
    numbers.min().map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_header_is_found_and_no_other_is_taken_for_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Rpc-Timeout-Ms", "1"),
            ("Rpc-Deadline", "2"),
            ("Rpc-Stream", "3"),
            ("TraceParent", "4"),
            ("tracestate", "5"),
            ("rpc-timeout-ms", "not as we write it"),
            ("X-Tracestate", "another"),
        ] {
            headers.append(name, value);
        }
        let Preface { timeout, deadline, stream, traceparent, tracestate } = Preface::of(Some(&headers));
        let found = [timeout, deadline, stream, traceparent, tracestate.as_deref()];
        assert_eq!(found, [Some("1"), Some("2"), Some("3"), Some("4"), Some("5")]);
    }

    #[test]
    fn second_value_extends_no_deadline_and_opens_no_stream() {
        for (values, counts) in [(["7", "9"], "7"), (["9", "7"], "7"), (["9", "soon"], "9"), (["a", "b"], "")] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TIMEOUT_HEADER, value);
                headers.append(DEADLINE_HEADER, value);
                headers.append(STREAM_HEADER, "open 5");
            }
            let Preface { timeout, deadline, stream, .. } = Preface::of(Some(&headers));
            assert_eq!((timeout, deadline, stream), (Some(counts), Some(counts), Some("")), "{values:?}");
        }
    }

    #[test]
    fn several_states_are_one_list_and_several_parents_are_none() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("traceparent", "1"), ("tracestate", "a=1"), ("tracestate", "b=2,c=3")] {
            headers.append(name, value);
        }
        let preface = Preface::of(Some(&headers));
        assert_eq!((preface.traceparent, preface.tracestate.as_deref()), (Some("1"), Some("a=1,b=2,c=3")));
        for second in ["traceparent", "Traceparent"] {
            let mut headers = headers.clone();
            headers.append(second, "1");
            assert_eq!(Preface::of(Some(&headers)).traceparent, Some(""), "{second}");
        }
    }

    #[test]
    fn a_request_without_them_has_none_whatever_other_headers_it_has() {
        let found = |headers: Option<&HeaderMap>| {
            let Preface { timeout, deadline, stream, traceparent, tracestate } = Preface::of(headers);
            [timeout, deadline, stream, traceparent, tracestate.as_deref()].map(|value| value.map(str::to_owned))
        };
        assert_eq!(found(None), [const { None }; 5]);
        for other in ["rpc-timeout-ms", "RPC-Deadline", "Rpc-Streams", "X-Traceparent", "trace-state"] {
            let mut headers = HeaderMap::new();
            headers.append(other, "1");
            assert_eq!(found(Some(&headers)), [const { None }; 5], "{other}");
        }
    }
}
