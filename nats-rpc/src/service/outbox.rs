//! Replies waiting for the connection.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use async_nats::message::OutboundMessage;
use async_nats::subject::ToSubject;
use async_nats::{HeaderMap, Subject};
use futures::Sink;

use super::arena::cut;
use super::exchange::{Answer, Exchange};
use super::stats::Counters;
use crate::error::RpcError;
use crate::reply::ReplyKind;

/// A buffer that a large reply has grown beyond this size, in bytes, is released.
const SCRATCH_KEPT: usize = 64 * 1024;

/// The replies that the connection has not accepted yet.
///
/// The connection accepts commands through a bounded channel that blocks while nats-server is away. A loop that waited
/// on the channel could not poll its handlers, so the remaining replies wait here.
pub(super) struct Outbox {
    nats: async_nats::Client,
    waiting: VecDeque<OutboundMessage>,
    /// Is `true` once the client is known to have ended.
    dead: bool,
    /// The text of the subject that is being published.
    subject: String,
}

/// The subject of a reply, passed on without a copy.
///
/// The first clone of a subject that async-nats received copies its full text, and `publish` clones.
struct Received<'a> {
    subject: Cell<Option<Subject>>,
    text: &'a str,
}

impl ToSubject for Received<'_> {
    fn to_subject(&self) -> Subject {
        self.subject.take().unwrap_or_else(|| self.text.into())
    }
}

impl Outbox {
    /// The number of waiting replies at which the loop takes no further messages.
    const CAPACITY: usize = 1_024;

    pub(super) fn new(nats: async_nats::Client) -> Self {
        Self { nats, waiting: VecDeque::new(), dead: false, subject: String::new() }
    }

    /// Continues with another client after the old one has ended.
    pub(super) fn renew(&mut self, nats: async_nats::Client) {
        self.nats = nats;
        self.dead = false;
    }

    /// Concludes `exchange`: it sends exactly one reply, or none if the caller requested none.
    ///
    /// `scratch` contains the value of the reply.
    pub(super) fn conclude(
        &mut self,
        exchange: &mut Exchange,
        result: Result<ReplyKind, RpcError>,
        now: Instant,
        counters: &Counters,
        scratch: &mut Vec<u8>,
    ) {
        let answer = exchange.conclude(result, now, self.nats.max_payload(), counters, scratch);
        if let (Some(Answer { headers, .. }), Some(subject)) = (answer, exchange.reply.take()) {
            self.answer(subject, headers, scratch);
        }
        give_back(scratch);
    }

    /// Publishes a reply, or stores it until [`poll_flush`](Self::poll_flush) can publish it.
    fn answer(&mut self, subject: Subject, headers: Option<HeaderMap>, body: &[u8]) {
        match headers {
            None if self.waiting.is_empty() => self.publish(subject, body),
            headers => self.keep(subject, headers, body),
        }
    }

    /// `publish` costs less than the reservation that [`Sink`] makes for each message, but it does not return a
    /// message that is not accepted at once. So the text of the subject is copied first, to build the message again.
    fn publish(&mut self, subject: Subject, body: &[u8]) {
        self.subject.clear();
        self.subject.push_str(&subject);
        let payload = cut(body);
        let subject = Received { subject: Cell::new(Some(subject)), text: &self.subject };
        // No waker is needed: stored messages are polled before the loop becomes idle.
        let handed_over = pin!(self.nats.publish(subject, payload)).poll(&mut Context::from_waker(Waker::noop()));
        if !matches!(handed_over, Poll::Ready(Ok(()))) {
            let subject = Subject::from(self.subject.as_str());
            self.keep(subject, None, body);
        }
    }

    fn keep(&mut self, subject: Subject, headers: Option<HeaderMap>, body: &[u8]) {
        let payload = cut(body);
        self.waiting.push_back(OutboundMessage { subject, reply: None, payload, headers });
    }

    /// Publishes a message, or stores it likewise.
    pub(super) fn push(&mut self, message: OutboundMessage) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.waiting.is_empty() && matches!(Pin::new(&mut self.nats).poll_ready(&mut cx), Poll::Ready(Ok(()))) {
            self.send(message);
        } else {
            self.waiting.push_back(message);
        }
    }

    /// Returns the largest message that the server accepts, in bytes, including headers.
    pub(super) fn max_payload(&self) -> usize {
        self.nats.max_payload()
    }

    /// Returns `true` if the loop has to wait. It never waits for a client that has ended: only the loop receives the
    /// next one.
    pub(super) fn is_full(&self) -> bool {
        !self.dead && self.waiting.len() >= Self::CAPACITY
    }

    /// Returns `true` if replies wait for another client, as the current one has ended.
    pub(super) fn is_stranded(&self) -> bool {
        self.dead && !self.waiting.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Publishes what the connection accepts now, and registers for a wake-up when it accepts more.
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) {
        // This runs for each message, and the queue is nearly always empty.
        if !self.waiting.is_empty() {
            self.flush(cx);
        }
    }

    #[cold]
    fn flush(&mut self, cx: &mut Context<'_>) {
        while !self.waiting.is_empty() {
            match Pin::new(&mut self.nats).poll_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {
                    let Some(message) = self.waiting.pop_front() else { return };
                    self.send(message);
                }
                Poll::Ready(Err(_)) => {
                    // The stored messages are sent through the next client.
                    self.dead = true;
                    return;
                }
            }
        }
    }

    fn send(&mut self, message: OutboundMessage) {
        if let Err(error) = Pin::new(&mut self.nats).start_send(message) {
            tracing::error!(%error, "an answer could not be sent");
        }
    }
}

/// Releases a buffer that a large reply has grown beyond the limit.
pub(super) fn give_back(scratch: &mut Vec<u8>) {
    if scratch.capacity() > SCRATCH_KEPT {
        *scratch = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a client that accepts commands for an absent server, and its runtime.
    fn client() -> (async_nats::Client, tokio::runtime::Runtime) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let nats = runtime.block_on(options.connect("nats://127.0.0.1:1")).unwrap();
        (nats, runtime)
    }

    fn flush(outbox: &mut Outbox) {
        outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
    }

    #[test]
    fn what_a_connection_does_not_take_waits_until_the_loop_has_to() {
        let (nats, _runtime) = client();
        let mut outbox = Outbox::new(nats);
        outbox.answer("a".into(), None, b"");
        assert!(outbox.is_empty(), "a connection takes commands ahead");
        while !outbox.is_full() {
            outbox.answer("a".into(), None, b"");
        }
        flush(&mut outbox);
        assert!(outbox.is_full() && !outbox.is_stranded());
    }

    #[test]
    fn a_loop_never_waits_for_a_client_that_has_died() {
        let (nats, runtime) = client();
        let mut outbox = Outbox::new(nats);
        while !outbox.is_full() {
            outbox.answer("a".into(), None, b"");
        }
        drop(runtime);
        flush(&mut outbox);
        assert!(!outbox.is_full() && outbox.is_stranded());
        let (nats, _runtime) = client();
        outbox.renew(nats);
        flush(&mut outbox);
        assert!(outbox.is_empty() && !outbox.is_stranded());
    }
}
