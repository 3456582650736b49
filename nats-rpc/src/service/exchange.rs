//! One message from its arrival to its answer; who polls the handler in between is the caller's affair.

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

/// What a loop must remember of a message while its handler runs.
pub(crate) struct Exchange {
    pub(crate) reply: Option<Subject>,
    pub(crate) deadline: Instant,
    span: Span,
    trace: Option<Arc<TraceContext>>,
    dialect: Dialect,
    arrival: Instant,
    route: &'static Route,
    /// Of a message whose sender learns nothing of an error, so that the log can tell what it was.
    unheard: Option<Subject>,
    /// Whether a request is this handler's to answer: of several handlers of one event one does.
    answers: bool,
    /// Whether it is one of several handlers of an event, whose answers are of no use to anybody.
    among_several: bool,
    /// How many items of a stream the caller takes, if it asked for one and said it so that it can be read.
    window: Option<Result<u64, ()>>,
}

/// The answer to publish.
pub(crate) struct Answer {
    pub(crate) headers: Option<HeaderMap>,
    /// Whether it is an error of this code.
    pub(crate) failed: Option<Code>,
}

impl Exchange {
    /// Takes a message that arrived at `arrival`, at `now`, and of it the reply subject.
    // It is large. Inlined, it is made where it is to stand.
    #[inline(always)]
    pub(crate) fn open(
        route: &BoundRoute,
        allowance: Allowance,
        message: &mut Message,
        arrival: Instant,
        now: Instant,
    ) -> Self {
        // Its loop has checked it.
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

    /// Takes the envelope off the message, and of it what a handler gets: the answer is given in the same one.
    ///
    /// # Errors
    /// An answer that needs no handler: the envelope is wrong.
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

    /// Drives the handler on: in the request's span, with its deadline, its panics caught.
    ///
    /// Once ready, the answer's value stands in `out` and the slot is empty.
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

    /// Runs a part of the handler: in the request's span, with its deadline, its panics caught; `None` for those.
    pub(crate) fn contained<R>(&self, part: impl FnOnce() -> R) -> Option<R> {
        self.span.in_scope(|| self.scoped(|| contained(part)))
    }

    /// Whether what was proved about the caller of a stream still holds.
    ///
    /// # Errors
    /// The error that the stream ends with; 500 if a guard panics.
    pub(crate) fn check_validity(&self, items: &BoxReplyStream) -> Result<(), RpcError> {
        let checked = self.contained(|| items.check_validity());
        checked.unwrap_or_else(|| Err(RpcError::internal("a guard panicked while a stream was checked")))
    }

    /// Lets the calls that a handler makes inherit its deadline and its place in the trace.
    ///
    /// A handler that runs to completion outlives its deadline, so its calls have their own timeouts.
    fn scoped<R>(&self, poll: impl FnOnce() -> R) -> R {
        let inherited = (!self.route.run_to_completion).then_some(self.deadline);
        deadline::scoped(inherited, || trace::scoped(self.trace.as_ref(), poll))
    }

    /// Drops the handler where it stands.
    ///
    /// # Errors
    /// 500 if what it held panics while it is dropped.
    pub(crate) fn cancel(&self, handler: &mut dyn HandlerSlot) -> Result<(), RpcError> {
        let dropped = self.span.in_scope(|| contained(|| handler.cancel()));
        dropped.ok_or_else(|| RpcError::internal("the handler panicked while it was dropped"))
    }

    pub(super) fn is_native(&self) -> bool {
        self.dialect == Dialect::Native
    }

    /// How many items of a stream the caller takes to begin with; NestJS's take all there are.
    ///
    /// # Errors
    /// 400 if it did not ask for a stream, or not so that it can be read.
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

    /// Completes an item of a stream whose value stands in `out` behind [`begin`](Self::begin).
    pub(super) fn finish_item(&self, out: &mut Vec<u8>) {
        self.dialect.finish_item(out);
    }

    /// Counts a stream that nobody takes any more.
    pub(super) fn forget(&self, now: Instant, counters: &Counters) {
        let took = now.duration_since(self.arrival);
        counters.finished(took, GONE);
        self.span.in_scope(|| tracing::debug!(outcome = GONE, duration_us = took.as_micros() as u64, "finished"));
        trace::end_span(&self.span, None);
    }

    /// Writes what stands before the value of the answer.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        out.clear();
        if self.reply.is_some() {
            self.dialect.begin(out);
        }
    }

    /// Completes the answer in `out`, writes the completion line, counts; `None` if nobody is to be answered.
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
                    // What NestJS sends to a caller who takes such an event for a request.
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
                // The log shows its cause, whose type is the handler's.
                if contained(|| self.log(&error)).is_none() {
                    tracing::error!(code = %error.code(), "the handler failed, and its error panicked when it was shown");
                }
                counters.failed(&error);
                let mut answer = self.write_error(&error, out);
                if out.len() + HEADER_ALLOWANCE > max_payload {
                    // Details or a body of its own made the error itself too large.
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

    /// An event is answered only where NestJS would: to a request in its dialect.
    fn is_answered(&self) -> bool {
        match self.route.kind {
            Kind::Message => true,
            Kind::Event => self.answers && matches!(self.dialect, Dialect::Nest { id: Some(_) }),
        }
    }

    /// Says once, here at the boundary, what an operator must know: faults of the service, and errors that
    /// nobody is answered with. The span tells more, but few look at its level.
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

/// What the completion line and the metrics call an answer that is no error.
const SUCCESS: &str = "OK";

/// What they call a stream whose caller went away.
const GONE: &str = "GONE";

/// Room for the headers of an error answer, in bytes.
const HEADER_ALLOWANCE: usize = 512;
