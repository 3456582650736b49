//! The lifecycle of one message: decode, run the handler, encode the reply. The caller drives the polling.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use async_nats::{HeaderMap, Message, Subject};
use tracing::Span;

use super::contained::contained;
use super::stats::Counters;
use crate::deadline::{self, Allowance};
use crate::error::{Code, RpcError};
use crate::message::{Preface, Request};
use crate::reply::{BoxReplyStream, ReplyKind};
use crate::route::{BoundRoute, HandlerSlot, Kind, Route};
use crate::trace::{self, Origin, TraceContext};
use crate::wire::{self, Dialect, Opened, WireFormat, publish_ack, stream};

/// The state of a message while its handler runs.
pub(crate) struct Exchange {
    pub(crate) reply: Option<Subject>,
    pub(crate) deadline: Instant,
    span: Span,
    trace: Option<Arc<TraceContext>>,
    dialect: Dialect,
    arrival: Instant,
    route: &'static Route,
    /// The subject of a message whose sender receives no error reply; the log names it.
    unheard: Option<Subject>,
    /// Is `true` if this handler replies to a request: of several handlers of one event, exactly one does.
    answers: bool,
    /// Is `true` if it is one of several handlers of an event, whose replies serve no caller.
    among_several: bool,
    /// The number of stream items that the caller accepts: `None` if it did not request a stream, an error if the
    /// header is malformed.
    window: Option<Result<u64, ()>>,
}

/// The reply to publish.
pub(crate) struct Answer {
    pub(crate) headers: Option<HeaderMap>,
    /// The code of the error, if the reply is one.
    pub(crate) failed: Option<Code>,
}

impl Exchange {
    /// Opens a message that arrived at `arrival`, at the time `now`, and takes its reply subject.
    // The value is large. Inlining constructs it in its final place.
    #[inline(always)]
    pub(crate) fn open(
        route: &BoundRoute,
        allowance: Allowance,
        message: &mut Message,
        arrival: Instant,
        now: Instant,
    ) -> Self {
        // The loop has already checked it.
        let reply = message.reply.take();
        let kind = route.entry.route.kind;
        let preface = Preface::of(message.headers.as_ref());
        let deadline = deadline::of_request(&preface, arrival, now, allowance);
        let trace = TraceContext::of(&preface).map(Arc::new);
        let window = preface.stream.map(stream::window);
        let origin = Origin {
            subject: message.subject.as_str(),
            pattern: route.entry.pattern.subject(),
            handler: route.entry.route.handler,
            queue: route.entry.queue.as_deref(),
            is_event: kind == Kind::Event,
            size: message.payload.len(),
        };
        let span = trace::request_span(&origin, trace.as_deref());
        let is_heard = reply.is_some() && kind == Kind::Message;
        let unheard = (!is_heard).then(|| message.subject.clone());
        let answers = route.entry.answers(unheard.as_deref().unwrap_or_default());
        let among_several = route.entry.among_several;
        let route = route.entry.route;
        let dialect = Dialect::Native;
        Self { reply, deadline, span, trace, dialect, arrival, route, unheard, answers, among_several, window }
    }

    /// Opens the envelope of the message and returns the handler's request; the reply uses the same dialect.
    ///
    /// # Errors
    /// An error for the reply, without running the handler: the envelope is malformed.
    #[inline(always)]
    pub(crate) fn request(&mut self, wire: WireFormat, message: &mut Message) -> Result<Request, RpcError> {
        let subject = std::mem::replace(&mut message.subject, Subject::from_static(""));
        let (payload, headers) = (std::mem::take(&mut message.payload), message.headers.take());
        let wants_answer = self.reply.is_some() && self.route.kind == Kind::Message;
        match wire::open(wire, subject.as_str(), payload, wants_answer) {
            Ok(Opened { dialect, data }) => {
                self.dialect = dialect;
                Ok(Request::new(subject, headers, data, self.deadline))
            }
            Err((dialect, error)) => {
                self.dialect = dialect;
                Err(error)
            }
        }
    }

    /// Polls the handler, in the request's span and with its deadline; catches panics.
    ///
    /// Once ready, `out` contains the value of the reply, and the slot is empty.
    pub(crate) fn poll(
        &self,
        handler: &mut dyn HandlerSlot,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<ReplyKind, RpcError>> {
        self.begin(out);
        let polled = self.contained(|| handler.poll(cx, out));
        polled.unwrap_or_else(|| Poll::Ready(self.cancel(handler).and(Err(RpcError::internal("the handler panicked")))))
    }

    /// Runs a part of the handler, in the request's span and with its deadline; returns `None` if it panics.
    pub(crate) fn contained<R>(&self, part: impl FnOnce() -> R) -> Option<R> {
        self.span.in_scope(|| self.scoped(|| contained(part)))
    }

    /// Checks that the authentication of a stream's caller is still valid.
    ///
    /// # Errors
    /// The error that the stream ends with; 500 if a guard panics.
    pub(crate) fn check_validity(&self, items: &BoxReplyStream) -> Result<(), RpcError> {
        let checked = self.contained(|| items.check_validity());
        checked.unwrap_or_else(|| Err(RpcError::internal("a guard panicked while a stream was checked")))
    }

    /// Makes the calls of a handler inherit its deadline and its trace context.
    ///
    /// A handler that runs to completion outlives its deadline, so its calls have their own timeouts.
    fn scoped<R>(&self, poll: impl FnOnce() -> R) -> R {
        let inherited = (!self.route.run_to_completion).then_some(self.deadline);
        deadline::scoped(inherited, || trace::scoped(self.trace.as_ref(), poll))
    }

    /// Drops the handler in its slot.
    ///
    /// # Errors
    /// 500 if a value in the handler panics while it is dropped.
    pub(crate) fn cancel(&self, handler: &mut dyn HandlerSlot) -> Result<(), RpcError> {
        let dropped = self.span.in_scope(|| contained(|| handler.cancel()));
        dropped.ok_or_else(|| RpcError::internal("the handler panicked while it was dropped"))
    }

    pub(super) fn is_native(&self) -> bool {
        self.dialect == Dialect::Native
    }

    /// Returns how many items of a stream the caller accepts at first; callers in the NestJS dialect accept any
    /// number.
    ///
    /// # Errors
    /// 400 if the caller did not request a stream, or its header is malformed.
    pub(super) fn window(&self) -> Result<u64, RpcError> {
        match (&self.reply, &self.dialect, self.window) {
            (None, ..) => Err(RpcError::invalid_argument("a stream needs a reply subject to be sent to")),
            (_, Dialect::Nest { .. }, _) => Ok(u64::MAX),
            (_, Dialect::Native, Some(Ok(window))) => Ok(window),
            (_, Dialect::Native, Some(Err(()))) => Err(RpcError::invalid_argument(format!(
                "the header `{}` of a request is `open` and a number of items from 1",
                stream::STREAM_HEADER
            ))),
            (_, Dialect::Native, None) => Err(RpcError::invalid_argument(
                "this handler answers with a stream: call it with `stream`, or with the header `Rpc-Stream: open 32`",
            )),
        }
    }

    /// Completes an item of a stream, whose value is in `out` after the text of [`begin`](Self::begin).
    pub(super) fn finish_item(&self, out: &mut Vec<u8>) {
        self.dialect.finish_item(out);
    }

    /// Counts a stream whose caller has gone.
    pub(super) fn forget(&self, now: Instant, counters: &Counters) {
        let took = now.duration_since(self.arrival);
        counters.finished(took, GONE);
        self.span.in_scope(|| tracing::debug!(outcome = GONE, duration_us = took.as_micros() as u64, "finished"));
        trace::end_span(&self.span, None);
    }

    /// Writes the text before the value of the reply.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        out.clear();
        if self.reply.is_some() {
            self.dialect.begin(out);
        }
    }

    /// Completes the reply in `out`, writes the completion log line, and counts; returns `None` if there is nothing to
    /// send.
    pub(crate) fn conclude(
        &self,
        result: Result<ReplyKind, RpcError>,
        now: Instant,
        max_payload: usize,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Option<Answer> {
        let answer = self.write(result, max_payload, counters, out);
        let took = now.duration_since(self.arrival);
        let outcome = answer.failed.map_or(SUCCESS, Code::as_str);
        counters.finished(took, outcome);
        self.span.in_scope(|| {
            tracing::debug!(outcome, duration_us = took.as_micros() as u64, "finished");
        });
        trace::end_span(&self.span, answer.failed.map(Code::as_str));
        (self.reply.is_some() && self.is_answered()).then_some(answer)
    }

    fn write(
        &self,
        result: Result<ReplyKind, RpcError>,
        max_payload: usize,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Answer {
        match result {
            Ok(written) => {
                if self.among_several {
                    // NestJS sends this to a caller that sends a request to such an event.
                    self.begin(out);
                    out.extend_from_slice(b"{}");
                    self.dialect.finish(&ReplyKind::Value, out);
                } else {
                    self.dialect.finish(&written, out);
                }
                if out.len() <= max_payload {
                    return Answer { headers: publish_ack::told_apart(out), failed: None };
                }
                let size = out.len();
                let error = RpcError::payload_too_large(format!(
                    "the answer of {size} bytes is larger than the {max_payload} that nats-server takes"
                ));
                counters.failed(&error);
                self.write_error(&error, out)
            }
            Err(error) => {
                // The log formats the cause, whose type belongs to the handler.
                if contained(|| self.log(&error)).is_none() {
                    tracing::error!(code = %error.code(), "the handler failed, and its error panicked when it was shown");
                }
                counters.failed(&error);
                let mut answer = self.write_error(&error, out);
                if out.len() + HEADER_ALLOWANCE > max_payload {
                    // The error itself is too large, because of its details or a custom body.
                    answer = self.write_error(&RpcError::new(error.code(), "the error is too large to send"), out);
                }
                let _ = contained(|| drop(error));
                answer
            }
        }
    }

    fn write_error(&self, error: &RpcError, out: &mut Vec<u8>) -> Answer {
        self.dialect.error(error, out);
        Answer { headers: Some(wire::error_headers(error)), failed: Some(error.code()) }
    }

    /// Returns `true` if a reply is due. An event gets one only where NestJS sends one: for a request in its dialect.
    fn is_answered(&self) -> bool {
        match self.route.kind {
            Kind::Message => true,
            Kind::Event => self.answers && matches!(self.dialect, Dialect::Nest { id: Some(_) }),
        }
    }

    /// Logs once, at this boundary, the errors that an operator must know: faults of the service, and errors that no
    /// caller receives. The span has more details, but its level is rarely enabled.
    fn log(&self, error: &RpcError) {
        let is_unheard = self.reply.is_none() || !self.is_answered();
        let subject = self.unheard.as_ref().map_or(self.route.pattern, |subject| subject.as_str());
        let handler = self.route.handler;
        let cause = std::error::Error::source(error).map(tracing::field::display);
        self.span.in_scope(|| match error.code() {
            Code::Internal => tracing::error!(subject, handler, error = %error, cause, "the handler failed"),
            code if is_unheard => {
                let error = error.message();
                tracing::warn!(subject, handler, %code, error, cause, "the handler failed, and nobody is answered")
            }
            code => tracing::debug!(%code, error = error.message(), cause, "answered with an error"),
        });
    }
}

/// The name of a successful reply in the completion line and the metrics.
const SUCCESS: &str = "OK";

/// The name of a stream whose caller has gone.
const GONE: &str = "GONE";

/// Reserved space for the headers of an error reply, in bytes.
const HEADER_ALLOWANCE: usize = 512;
